"""Standing conditions of the cohorts API: what holds until somebody changes it.

Source: Amplitude Behavioral Cohorts API reference, 2026-11.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from relay.sandbox.cohorts.files import FileShape

UsageShape = Literal["nested", "flat"]
_DAY_S: Final = 86_400


class CohortLimits(BaseModel):
    """Amplitude's limits.

    Attributes:
        per_month: Exports per calendar month (UTC).
        per_window: Exports per window.
        window_s: Length of the window.
        parallel: Exports of the last minute that may be unfinished at a time.
        at_once: Requests of all kinds that may be unanswered at a time.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    per_month: NonNegativeInt = 500
    per_window: PositiveInt = 60
    window_s: float = Field(default=600.0, gt=0)
    parallel: PositiveInt = 4
    at_once: PositiveInt = 5


class Job(BaseModel):
    """How long an export runs: until all of it is fulfilled.

    Attributes:
        polls: Status requests that are answered as running.
        seconds: Least time.
        never_completes: Whether none ever ends.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    polls: NonNegativeInt = 1
    seconds: float = Field(default=0.0, ge=0)
    never_completes: bool = False


class CohortConditions(BaseModel):
    """All standing conditions.

    Attributes:
        limits: Amplitude's limits.
        job: How long exports run.
        delivery: Whether files come `inline`, by `link` to the second origin, or `auto`:
            by link from `link_from_rows` on.
        link_from_rows: Size of the cohort from which `auto` links.
        link_s: How long a link works.
        export_s: How long an export is kept.
        shape: Overrides the shape of every file; None = each cohort's own.
        usage: Shape of the usage endpoint; None = there is none (404).
        accepted_status: Answer to a request for an export.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    limits: CohortLimits = Field(default_factory=CohortLimits)
    job: Job = Field(default_factory=Job)
    delivery: Literal["auto", "inline", "link"] = "auto"
    link_from_rows: PositiveInt = 1_000
    link_s: float = Field(default=60.0, gt=0)
    export_s: float = Field(default=7.0 * _DAY_S, gt=0)
    shape: FileShape | None = None
    usage: UsageShape | None = None
    accepted_status: Literal[200, 202] = 202
