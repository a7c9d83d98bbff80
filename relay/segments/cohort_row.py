"""A cohort as a transaction sees it, and the figures of its segment."""

import sqlite3
from typing import NamedTuple

from relay.segments.sql import SQL


class Comparison(NamedTuple):
    """The state of a cohort that a staged list was compared with.

    Attributes:
        version: Version of the list in force when the comparison began.
        webhook_seq: Webhook messages applied by then; ids of later ones are compared again.
    """

    version: int
    webhook_seq: int


class CohortRow(NamedTuple):
    """A cohort and its list in force.

    Attributes:
        no: Its number.
        app: Its app's number.
        cohort_id: Amplitude's id.
        takes_all: Whether members need not be known to OneSignal.
        segment_limit: Segments its app may have, None for any number.
        list: The run that staged the list in force, 0 if there is no list.
        list_at: When that list came into force, UTC epoch milliseconds.
        version: Rises whenever another list, or another state of it, comes into force.
        webhook_seq: Webhook messages applied so far.
        is_segment: Whether its segment exists.
        matched_users: Members of the segment.
        applied_computed_at: Amplitude's time of the downloaded list, None before the first.
    """

    no: int
    app: int
    cohort_id: str
    takes_all: int
    segment_limit: int | None
    list: int
    list_at: int
    version: int
    webhook_seq: int
    is_segment: int
    matched_users: int
    applied_computed_at: int | None

    @property
    def comparison(self) -> Comparison:
        """The state that a comparison beginning now is of."""
        return Comparison(self.version, self.webhook_seq)

    @property
    def membership(self) -> dict[str, int]:
        """Query parameters that decide which ids of a list are members."""
        return {"app": self.app, "takes_all": self.takes_all}


class Figures(NamedTuple):
    """Counts over some ids: how many there are, and what they mean for the segment."""

    ids: int = 0
    restricted_ids: int = 0
    matched_users: int = 0
    without_subscription: int = 0
    only_unsubscribed: int = 0
    subscribed_count: int = 0

    def minus(self, other: "Figures") -> "Figures":
        """Return the difference, count by count."""
        return Figures(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def unknown_users(self) -> int:
        """Ids that are neither restricted nor members."""
        return self.ids - self.restricted_ids - self.matched_users


class DeltaFigures(NamedTuple):
    """The figures of the ids that enter a list, and of those that leave it."""

    entering: Figures
    leaving: Figures


def load_cohort(raw: sqlite3.Connection, cohort: int) -> CohortRow:
    """Return a cohort as it is in this transaction; the number must exist."""
    return CohortRow(*raw.execute(SQL["cohort"], {"cohort": cohort}).fetchone())


def read_figures(row: tuple[int | None, ...] | None) -> Figures:
    """Return the figures in a query's row; SQL's NULL sum of no rows is zero."""
    return Figures(*(number or 0 for number in row)) if row else Figures()


def measure_delta(raw: sqlite3.Connection, cohort: CohortRow, delta: int) -> DeltaFigures:
    """Return the figures of a delta, by the directory as it is now.

    Args:
        raw: In a transaction.
        cohort: The list's cohort.
        delta: The run whose delta is measured.
    """
    rows = raw.execute(SQL["figures_of_delta"], {"delta": delta, **cohort.membership})
    figures = {change: read_figures(tuple(row)) for change, *row in rows}
    return DeltaFigures(figures.get(1, Figures()), figures.get(0, Figures()))
