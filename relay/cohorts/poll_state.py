"""What a poller is configured with, what it remembers of its downloads, and what it shows.

A failed download waits for the next reading of the list, so that Amplitude is not asked in a tight
loop; one that an operator requested is started a few times before the request is given up.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

MAX_STARTS = 3
"""How often a requested download is started, if it fails."""


class CohortSelection(Protocol):
    """The cohorts an app keeps (`relay.settings.values.CohortSelection`)."""

    def __contains__(self, cohort_id: str) -> bool:
        """Return whether a cohort is kept."""


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How an app's cohorts are polled.

    Attributes:
        interval_s: Between two readings of the list.
        refused_s: The same after a refusal.
        monthly: Downloads allowed per month.
        selected: The ids that are kept.
        off: Why nothing is polled, None if polling is on.
    """

    interval_s: float
    refused_s: float
    monthly: int
    selected: CohortSelection
    off: str | None = None


class PollStatus(NamedTuple):
    """The downloads of an app, as the status shows them.

    Attributes:
        downloads_this_month: Downloads spent.
        downloads_left: Downloads that remain this month.
        next_download_at: When the next waiting cohort is due, None if none waits.
        last_error: Why a download waits or was refused, None if nothing is wrong.
    """

    downloads_this_month: int
    downloads_left: int
    next_download_at: int | None
    last_error: str | None


class PollState:
    """Downloads of one app that were tried, failed or requested.

    Cohorts are named by their number, requests and errors by Amplitude's id, as operators do.
    """

    def __init__(self) -> None:
        self._requested: set[str] = set()
        self._again: set[str] = set()  # failed requests, to be repeated after the next list
        self._starts: dict[str, int] = {}  # of each request
        self._tried: set[int] = set()  # since the list was read
        self._failed: set[int] = set()
        self._errors: dict[str, str] = {}

    @property
    def first_error(self) -> str | None:
        """Why a download failed, of the one that failed first."""
        return next(iter(self._errors.values()), None)

    def request(self, cohort_id: str) -> bool:
        """Add an operator's request; False if there is one already."""
        is_new = cohort_id not in self._requested
        self._requested.add(cohort_id)
        return is_new

    def is_requested(self, cohort_id: str) -> bool:
        """Return whether an operator's request waits."""
        return cohort_id in self._requested

    def was_tried(self, cohort: int) -> bool:
        """Return whether a cohort was tried or passed over since the list was read."""
        return cohort in self._tried

    def has_failed(self, cohort: int) -> bool:
        """Return whether the last run of a cohort failed."""
        return cohort in self._failed

    def list_was_read(self) -> None:
        """Allow every cohort another try."""
        self._tried.clear()
        self._requested |= self._again
        self._again.clear()

    def keep(self, listed: Collection[str], active: Collection[str]) -> None:
        """Drop requests of cohorts that are not listed, and errors of those not active."""
        self._requested.intersection_update(listed)
        self._errors = {id_: text for id_, text in self._errors.items() if id_ in active}

    def start(self, cohort: int, cohort_id: str) -> None:
        """Record that a download starts; a request for it is being served."""
        self._tried.add(cohort)
        if cohort_id in self._requested:
            self._requested.discard(cohort_id)
            self._starts[cohort_id] = self._starts.get(cohort_id, 0) + 1

    def postpone(self, cohort: int) -> None:
        """Record that no download was free for a cohort before the next list."""
        self._tried.add(cohort)

    def skip(self, cohort: int, cohort_id: str, reason: str) -> None:
        """Record why a cohort is passed over until the next list."""
        self._tried.add(cohort)
        self._errors[cohort_id] = f"cohort {cohort_id}: {reason}"

    def succeed(self, cohort: int, cohort_id: str) -> None:
        """Record that a run did not fail."""
        self._failed.discard(cohort)
        self._starts.pop(cohort_id, None)
        self._errors.pop(cohort_id, None)

    def fail(self, cohort: int, cohort_id: str, reason: str) -> None:
        """Record that a run failed; it is repeated, a request a few times."""
        self.skip(cohort, cohort_id, reason)
        self._failed.add(cohort)
        if 0 < self._starts.get(cohort_id, 0) < MAX_STARTS:
            self._again.add(cohort_id)
        else:
            self._starts.pop(cohort_id, None)
