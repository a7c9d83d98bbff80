"""The settings of one app: a OneSignal app and the Amplitude project it is linked to."""

from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from relay.events.catalog import NameSet, parse_selection
from relay.settings.sections import UploadApi
from relay.settings.values import (
    ALL_COHORTS,
    LOWER_CASE,
    RESTART,
    SECRET,
    CohortSelection,
    Hint,
    Section,
    from_text,
    parse_cohorts,
    parse_origin,
    parse_tokens,
    parse_uuid,
)

Region = Literal["us", "eu"]
Anonymous = Literal["device", "drop"]
Membership = Literal["known", "all"]

# Source: Amplitude, "HTTP V2 API" and "Behavioral Cohorts API" (March 2026); OneSignal, "Keys &
# IDs" (early 2026).
_ORIGINS: Final[dict[Region, dict[str, str]]] = {
    "us": {
        "amplitude_ingest_url": "https://api2.amplitude.com",
        "amplitude_cohorts_url": "https://amplitude.com",
        "onesignal_api_url": "https://api.onesignal.com",
    },
    "eu": {
        "amplitude_ingest_url": "https://api.eu.amplitude.com",
        "amplitude_cohorts_url": "https://analytics.eu.amplitude.com",
        "onesignal_api_url": "https://api.onesignal.com",
    },
}


def ingest_origin(region: Region) -> str:
    """Return where Amplitude takes uploads to the projects of a region."""
    return _ORIGINS[region]["amplitude_ingest_url"]


def _parse_events(text: str) -> frozenset[str]:
    try:
        return parse_selection(text)
    except ValueError as error:
        raise ValueError(f"event kinds or all: {error}") from error


Origin = Annotated[
    str,
    Hint("http:// or https://, a host and perhaps a port", default="by region"),
    Field(validate_default=True),
    RESTART,
]


class AppSettings(Section):
    """One OneSignal app and its Amplitude project."""

    onesignal_app_id: Annotated[str, from_text(parse_uuid), Hint("a UUID"), RESTART] = Field(
        description="The OneSignal app's id; events that name another app are quarantined."
    )
    webhook_tokens: Annotated[
        tuple[SecretStr, ...],
        from_text(parse_tokens),
        Hint("one or more secrets, comma-separated", is_secret=True),
    ] = Field(
        min_length=1,
        description="Secrets that OneSignal and Amplitude present at the webhooks; "
        "several, so that they can be rotated.",
    )
    amplitude_api_key: Annotated[SecretStr, *SECRET, RESTART] = Field(
        description="The Amplitude project's API key."
    )
    amplitude_secret_key: Annotated[SecretStr | None, *SECRET, RESTART] = Field(
        None, description="The Amplitude project's secret key, needed to poll cohorts."
    )
    amplitude_region: Annotated[Region, LOWER_CASE, RESTART] = Field(
        "us", description="The project's data residency: sets the ingest and the cohort host."
    )
    amplitude_upload: Annotated[UploadApi, LOWER_CASE, RESTART] = Field(
        "httpapi", description="Which upload API of Amplitude is used."
    )
    events: Annotated[
        frozenset[str],
        from_text(_parse_events),
        Hint("event kinds, comma-separated, message.push.* for a channel, or all", default="all"),
    ] = Field(
        default_factory=lambda: parse_selection("all"),
        description="Kinds of event to send; all = the 21 of OneSignal's own integration.",
    )
    event_names: Annotated[NameSet, LOWER_CASE] = Field(
        "seed", description="Which published spelling of the Amplitude event names."
    )
    anonymous: Annotated[Anonymous, LOWER_CASE] = Field(
        "device",
        description="Events without external_id: device sends them with device_id alone, "
        "drop counts them as filtered.",
    )
    cohorts: Annotated[
        CohortSelection,
        from_text(parse_cohorts),
        Hint("all, none, or cohort ids, comma-separated", default="all"),
    ] = Field(
        ALL_COHORTS,
        description="Cohorts to poll and keep as segments; the webhook brings any cohort.",
    )
    membership: Annotated[Membership, LOWER_CASE] = Field(
        "known",
        description="known: only users in the directory become members; "
        "all: every cohort member with a user id.",
    )
    segment_limit: int | None = Field(
        None, ge=0, description="Most segments of the app; further cohorts get none."
    )
    onesignal_api_key: Annotated[SecretStr | None, *SECRET, RESTART] = Field(
        None, description="OneSignal's App API key, for the directory sync and the write-back."
    )
    amplitude_ingest_url: Origin = Field(
        "", description="Another host for uploads, for proxies and tests."
    )
    amplitude_cohorts_url: Origin = Field(
        "", description="Another host for cohorts, for proxies and tests."
    )
    onesignal_api_url: Origin = Field(
        "", description="Another host for OneSignal's API, for proxies and tests."
    )

    @field_validator(*_ORIGINS["us"], mode="before")
    @classmethod
    def _origin_by_region(cls, value: str, info: ValidationInfo) -> str:
        if value:
            return parse_origin(value)
        region: Region = info.data.get("amplitude_region", "us")
        return _ORIGINS[region][info.field_name or ""]
