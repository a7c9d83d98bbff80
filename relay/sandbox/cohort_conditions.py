"""Standing conditions of the cohorts stand-in: what holds until somebody changes it."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from relay.sandbox.cohort_answers import UsageShape
from relay.sandbox.cohort_files import FileShape
from relay.sandbox.cohort_limits import CohortLimits
from relay.sandbox.cohort_project import Job

_DAY_S: Final = 86_400


class CohortConditions(BaseModel):
    """What stands until changed.

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
