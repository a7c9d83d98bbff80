"""An app as its poller is told of it, and what the poller tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relay.amplitude.cohort_list import Cohort, Usage
from relay.cohorts.download import Downloads
from relay.segments.cohorts import ListedCohort
from relay.segments.watermark import needs_refresh


class CohortList(Protocol):
    """Where the list comes from (`relay.amplitude.cohorts_api.CohortsApi`)."""

    async def list_cohorts(self) -> Sequence[Cohort]:
        """Return every cohort of the project."""

    async def read_usage(self) -> Usage | None:
        """Return how many downloads the month had, None if Amplitude does not tell."""


class Selection(Protocol):
    """Which cohorts an app keeps (`relay.settings.values.CohortSelection`)."""

    def __contains__(self, cohort_id: str) -> bool:
        """Tell whether a cohort is kept."""


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How an app's cohorts are polled.

    Attributes:
        interval_s: How often the list is read.
        refused_s: How often it is tried again after a refusal.
        monthly: Downloads allowed per month.
        selected: The ids that are kept.
        off: Why nothing is polled, None if it is.
    """

    interval_s: float
    refused_s: float
    monthly: int
    selected: Selection
    off: str | None = None


@dataclass(frozen=True, slots=True)
class PolledApp:
    """An app as its poller knows it: its number, where its list comes from, its downloads."""

    no: int
    source: CohortList
    downloads: Downloads


def has_changed(cohort: ListedCohort) -> bool:
    """Return whether Amplitude lists a computation of a cohort that is not known here."""
    return needs_refresh(
        cohort.listed, applied=cohort.applied, rejected=cohort.rejected, held=cohort.held
    )


class PollStatus(NamedTuple):
    """How an app's downloads stand.

    Attributes:
        downloads_this_month: Downloads that are gone.
        downloads_left: Downloads that remain this month.
        next_download_at: When the next waiting cohort is due, None if none waits.
        last_error: Why a download waits or was refused, None if nothing is wrong.
    """

    downloads_this_month: int
    downloads_left: int
    next_download_at: int | None
    last_error: str | None
