"""The settings that hold for all apps: outbox, delivery, cohorts, directory."""

from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from relay.settings.values import DAY_S, RESTART, Ratio, Seconds, Section

UploadApi = Literal["httpapi", "batch"]


# Source: Amplitude, "HTTP V2 API" and "Batch Event Upload API" (March 2026): one upload holds
# at most 2,000 events and 1 MB (HTTP V2) or 20 MB (Batch); beyond that it is answered 413.
MAX_UPLOAD_EVENTS: Final = 2_000
MAX_UPLOAD_BYTES: Final[dict[UploadApi, int]] = {"httpapi": 1_000_000, "batch": 20_000_000}

# Source: Amplitude, "HTTP V2 API" (March 2026): an insert_id is remembered for 7 days.
INSERT_ID_MEMORY_S: Final = 7 * DAY_S


class OutboxSettings(Section):
    """When the outbox stops taking events."""

    max_events: int = Field(
        10_000_000, ge=1, description="Above this number of stored events, new ones get 503."
    )
    min_free_bytes: int = Field(
        268_435_456,
        ge=0,
        description="With less free disk, new events get 503 and /readyz too; delivery goes on.",
    )


class DeliverySettings(Section):
    """How events travel to Amplitude."""

    senders: Annotated[int, RESTART] = Field(4, ge=1, le=64, description="Sender tasks per app.")
    max_batch_events: int = Field(
        1_000, ge=1, le=MAX_UPLOAD_EVENTS, description="Most events in one upload."
    )
    max_batch_bytes: int = Field(
        900_000,
        ge=1_024,
        le=MAX_UPLOAD_BYTES["batch"],
        description="Most bytes of one upload, serialised; httpapi takes at most 1000000.",
    )
    linger_s: Seconds = Field(
        0.5,
        ge=0,
        le=3_600,
        description="The longest an event waits for others to share its upload, "
        "from its acceptance; 0 = not at all.",
    )
    request_timeout_s: Seconds = Field(30.0, gt=0, le=3_600, description="Timeout of one upload.")
    gzip: bool = Field(True, description="Compress uploads of 2 KiB and more.")  # noqa: FBT003
    backoff_base_s: Seconds = Field(
        1.0,
        gt=0,
        le=DAY_S,
        description="First wait after a failure; doubled each time, full jitter.",
    )
    backoff_cap_s: Seconds = Field(
        300.0, gt=0, le=DAY_S, description="The longest wait between two attempts."
    )
    throttle_hold_s: Seconds = Field(
        30.0,
        ge=0,
        le=DAY_S,
        description="Shortest pause of a device or user that Amplitude names as throttled.",
    )
    halt_probe_s: Seconds = Field(
        300.0,
        gt=0,
        le=DAY_S,
        description="How often a halted app (bad key, 403) is tried again; "
        "the same for a refused cohort list.",
    )
    max_age_s: Seconds = Field(
        561_600.0,
        gt=0,
        lt=INSERT_ID_MEMORY_S,
        description="An event first tried longer ago becomes a dead letter (expired): "
        "Amplitude forgets insert_ids after 7 days.",
    )

    @field_validator("backoff_cap_s")
    @classmethod
    def _cap_is_not_below_base(cls, cap_s: float, info: ValidationInfo) -> float:
        if cap_s < info.data.get("backoff_base_s", 0):
            raise ValueError("at least RELAY_DELIVERY__BACKOFF_BASE_S")
        return cap_s


class CohortSettings(Section):
    """How cohorts are fetched and when a change is held back."""

    poll_interval_s: Seconds = Field(
        900.0, gt=0, le=7 * DAY_S, description="How often the cohort list is read (costs no quota)."
    )
    export_poll_s: Seconds = Field(
        5.0,
        gt=0,
        le=3_600,
        description="How often a running export (Amplitude's or OneSignal's) is polled.",
    )
    export_timeout_s: Seconds = Field(
        1_800.0, gt=0, le=DAY_S, description="A run whose export takes longer fails."
    )
    monthly_downloads: int = Field(
        450,
        ge=0,
        description="Most downloads per app and calendar month (UTC), spread evenly; "
        "the first one of a cohort does not wait.",
    )
    guard_removed_ratio: Ratio = Field(
        0.2,
        ge=0,
        le=1,
        description="A run that would remove a larger share of a segment is held.",
    )
    guard_min_members: int = Field(
        100, ge=0, description="The guard applies to segments with at least this many members."
    )


class DirectorySettings(Section):
    """How OneSignal's users become known."""

    sync_interval_s: Seconds = Field(
        21_600.0,
        ge=0,
        le=30 * DAY_S,
        description="How often the directory is refreshed from OneSignal's CSV export "
        "(needs ONESIGNAL_API_KEY); 0 = never.",
    )
