"""A cohort as a transaction needs it, and the figures of its segment."""

import sqlite3
from typing import NamedTuple

from relay.segments.guard import Shrink
from relay.segments.sql import SQL


class Comparison(NamedTuple):
    """What a staged list was compared with.

    Attributes:
        version: Of the list in force when the comparison began.
        words: Of the webhook until then; whom it spoke of since is compared anew.
    """

    version: int
    words: int


class CohortRow(NamedTuple):
    """A cohort and the list in force.

    Attributes:
        no: Its number.
        app: Its app's number.
        cohort_id: Amplitude's id.
        takes_all: Whether members need not be known to OneSignal.
        segment_limit: Segments its app may have, None for any number.
        list: The list in force, 0 if there is none.
        list_at: Since when.
        version: Rises whenever another list, or another state of it, comes into force.
        words: Words of the webhook so far.
        is_segment: Whether its segment exists.
        matched_users: Members of the segment.
        applied_computed_at: Amplitude's time of the downloaded list, None if never downloaded.
    """

    no: int
    app: int
    cohort_id: str
    takes_all: int
    segment_limit: int | None
    list: int
    list_at: int
    version: int
    words: int
    is_segment: int
    matched_users: int
    applied_computed_at: int | None

    @property
    def compared(self) -> "Comparison":
        """What a list that is compared now is compared with."""
        return Comparison(self.version, self.words)

    @property
    def scope(self) -> dict[str, int]:
        """What decides who of a list is a member."""
        return {"app": self.app, "takes_all": self.takes_all}


class Figures(NamedTuple):
    """How many ids there are, and what they are to the segment."""

    ids: int = 0
    restricted_ids: int = 0
    matched_users: int = 0
    without_subscription: int = 0
    only_unsubscribed: int = 0
    subscribed_count: int = 0

    def less(self, other: "Figures") -> "Figures":
        """Return the difference."""
        return Figures(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def unknown_users(self) -> int:
        """Ids that are neither restricted nor members."""
        return self.ids - self.restricted_ids - self.matched_users


def load_cohort(raw: sqlite3.Connection, cohort: int) -> CohortRow:
    """Return a cohort by its number."""
    return CohortRow(*raw.execute(SQL["cohort"], {"cohort": cohort}).fetchone())


def read_figures(row: tuple[int | None, ...] | None) -> Figures:
    """Return the figures of a query's row; nothing counted is zero."""
    return Figures(*(number or 0 for number in row)) if row else Figures()


def weigh_changes(
    raw: sqlite3.Connection, cohort: CohortRow, delta: int
) -> tuple[Figures, Figures]:
    """Return the figures of who enters the list and of who leaves it.

    Args:
        raw: In a transaction.
        cohort: Whose list changes.
        delta: The run whose changes of the list are weighed.
    """
    rows = raw.execute(SQL["figures_of_changes"], {"delta": delta, **cohort.scope})
    figures = {change: read_figures(tuple(row)) for change, *row in rows}
    return figures.get(1, Figures()), figures.get(0, Figures())


def weigh_shrink(
    raw: sqlite3.Connection, cohort: CohortRow, leaving: Figures, earlier: int | None = None
) -> Shrink:
    """Return what a computation takes from the segment, by the directory as it is now.

    A poll brings its computation whole, the webhook in any number of messages. Both are judged by
    this one definition: the members without the computation, and which of them it removes.

    Args:
        raw: In a transaction.
        cohort: The cohort before the poll or the message in hand changes its list.
        leaving: Figures of those who leave the list by it.
        earlier: The run with what earlier messages of the computation changed, if there were any;
            the message in hand is then in `run_changes` as run 0.
    """
    if earlier is None:
        return Shrink(cohort.matched_users, leaving.matched_users)
    scope = {"run": earlier, "list": cohort.list, **cohort.scope}
    came, gone, passing = raw.execute(SQL["moved_by_messages"], scope).fetchone()
    return Shrink(
        members=cohort.matched_users - came + gone,
        removed=leaving.matched_users - passing + gone,
    )
