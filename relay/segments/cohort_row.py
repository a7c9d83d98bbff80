"""A cohort as a transaction sees it, and the figures of its segment."""

import sqlite3
from typing import NamedTuple

from relay.segments.guard import Shrink
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


class EarlierMessages(NamedTuple):
    """What the earlier messages of a webhook computation did.

    Attributes:
        run: The run that gathers them, whose delta is theirs.
        removed: Members that they removed, each time counted.
    """

    run: int
    removed: int


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


def load_cohort(raw: sqlite3.Connection, cohort: int) -> CohortRow:
    """Return a cohort by its number."""
    return CohortRow(*raw.execute(SQL["cohort"], {"cohort": cohort}).fetchone())


def read_figures(row: tuple[int | None, ...] | None) -> Figures:
    """Return the figures in a query's row; SQL's NULL sum of no rows is zero."""
    return Figures(*(number or 0 for number in row)) if row else Figures()


def measure_delta(
    raw: sqlite3.Connection, cohort: CohortRow, delta: int
) -> tuple[Figures, Figures]:
    """Return the figures of the ids that enter a list and of those that leave it.

    Args:
        raw: In a transaction.
        cohort: The list's cohort.
        delta: The run whose delta is measured.
    """
    rows = raw.execute(SQL["figures_of_delta"], {"delta": delta, **cohort.membership})
    figures = {change: read_figures(tuple(row)) for change, *row in rows}
    return figures.get(1, Figures()), figures.get(0, Figures())


def measure_shrinks(
    raw: sqlite3.Connection,
    cohort: CohortRow,
    leaving: Figures,
    earlier: EarlierMessages | None = None,
) -> list[Shrink]:
    """Return what a computation takes from the segment, by each measure that may hold it.

    A poll brings its computation in one file, the webhook in any number of messages, between which
    the directory and other runs go on to change the segment. Both are judged alike: by the members
    that the computation found, among them those who entered by other ways meanwhile. Messages can
    also take back what earlier ones brought, so they are judged by all members there were as well.

    Args:
        raw: In a transaction.
        cohort: The cohort before the file or the message at hand changes its list.
        leaving: Figures of the ids that leave the list by it.
        earlier: What the computation's earlier messages did, if there were any; the delta of the
            message at hand is then run 0.
    """
    if earlier is None:
        return [Shrink(cohort.matched_users, leaving.matched_users)]
    scope = {"run": earlier.run, "list": cohort.list, **cohort.membership}
    came, gone, passing = raw.execute(SQL["moved_by_messages"], scope).fetchone()
    # Without those it brought, or they would hide the leavers; by the directory of now on both
    # sides, or a user who became known meanwhile would be removed without having been a member.
    found = Shrink(cohort.matched_users - came + gone, leaving.matched_users - passing + gone)
    every = Shrink(cohort.matched_users + earlier.removed, leaving.matched_users + earlier.removed)
    return [found, every]
