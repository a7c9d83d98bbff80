"""What became of the downloads of an app: what was tried, what failed, what a person asked for.

What fails waits for the next reading of the list, so that nothing is hammered; a download that a
person asked for is begun a few times before the wish is given up.
"""

from collections.abc import Collection

MAX_WISHES = 3
"""How often a download that a person asked for is begun, if it fails."""


class PollState:
    """Keeps account of the downloads of one app, by cohort number and Amplitude's id."""

    def __init__(self) -> None:
        self._wished: set[str] = set()
        self._again: set[str] = set()  # wishes that failed, for after the next list
        self._begun: dict[str, int] = {}  # how often a wish was begun
        self._tried: set[int] = set()  # since the list was read
        self._failed: set[int] = set()
        self._errors: dict[str, str] = {}

    @property
    def first_error(self) -> str | None:
        """Why a download failed, of the one that failed first."""
        return next(iter(self._errors.values()), None)

    def wish(self, cohort_id: str) -> bool:
        """Take a person's wish; False if it was known."""
        is_new = cohort_id not in self._wished
        self._wished.add(cohort_id)
        return is_new

    def is_wished(self, cohort_id: str) -> bool:
        """Return whether a person's wish waits to be fulfilled."""
        return cohort_id in self._wished

    def was_tried(self, cohort: int) -> bool:
        """Return whether a cohort had its turn since the list was read."""
        return cohort in self._tried

    def has_failed(self, cohort: int) -> bool:
        """Return whether the last run of a cohort failed."""
        return cohort in self._failed

    def list_was_read(self) -> None:
        """Begin a new round."""
        self._tried.clear()
        self._wished |= self._again
        self._again.clear()

    def keep(self, listed: Collection[str], active: Collection[str]) -> None:
        """Forget the wishes of cohorts that are not listed, and errors of those not active."""
        self._wished.intersection_update(listed)
        self._errors = {id_: text for id_, text in self._errors.items() if id_ in active}

    def begin(self, cohort: int, cohort_id: str) -> None:
        """Note that a download begins."""
        self._tried.add(cohort)
        if cohort_id in self._wished:
            self._wished.discard(cohort_id)
            self._begun[cohort_id] = self._begun.get(cohort_id, 0) + 1

    def postpone(self, cohort: int) -> None:
        """Note that a cohort found no place in this round."""
        self._tried.add(cohort)

    def skip(self, cohort: int, cohort_id: str, reason: str) -> None:
        """Note why a cohort does not get its turn in this round."""
        self._tried.add(cohort)
        self._errors[cohort_id] = f"cohort {cohort_id}: {reason}"

    def succeed(self, cohort: int, cohort_id: str) -> None:
        """Note that a run ended well."""
        self._failed.discard(cohort)
        self._begun.pop(cohort_id, None)
        self._errors.pop(cohort_id, None)

    def fail(self, cohort: int, cohort_id: str, reason: str) -> None:
        """Note that a run failed; it is repeated, a person's wish a few times."""
        self.skip(cohort, cohort_id, reason)
        self._failed.add(cohort)
        if 0 < self._begun.get(cohort_id, 0) < MAX_WISHES:
            self._again.add(cohort_id)
        else:
            self._begun.pop(cohort_id, None)
