"""What a changed list or directory means for a segment: figures, changes, a new revision.

Runs in the transaction that changes the list or the directory, so that a reader sees all of it
or nothing.
"""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from relay.segments.cohort_row import CohortRow, DeltaFigures, Figures
from relay.segments.sql import SQL


class Effect(NamedTuple):
    """Members who entered and left a segment."""

    added: int
    removed: int


class MembershipChange(NamedTuple):
    """A change of a segment, about to be made.

    Attributes:
        figures: The difference of its figures.
        added: Members who enter.
        removed: Members who leave.
        log: Writes them to the change log that followers read.
    """

    figures: Figures
    added: int
    removed: int
    log: Callable[[], object]


def update_segment(
    raw: sqlite3.Connection, cohort: CohortRow, run: int, change: MembershipChange, at: int
) -> Effect:
    """Change a segment's figures, log its changes, and count its revision.

    A cohort gets its segment with the first matched user, unless its app has reached its limit.
    """
    matched_users = move_figures(raw, cohort.no, change.figures)
    if cohort.is_segment:
        if not change.added and not change.removed:
            return Effect(0, 0)  # figures moved, members did not: the revision stays
        change.log()
        _count_revision(raw, cohort, at)
        return Effect(change.added, change.removed)
    if not may_become_segment(raw, cohort, matched_users):
        return Effect(0, 0)
    return create_segment(raw, cohort, run, at)


def move_figures(raw: sqlite3.Connection, cohort: int, difference: Figures) -> int:
    """Add a difference to the figures of a cohort; return its matched users now."""
    moved = raw.execute(SQL["move_figures"], {"cohort": cohort, **difference._asdict()})
    return int(moved.fetchone()[0])


def may_become_segment(raw: sqlite3.Connection, cohort: CohortRow, matched_users: int) -> bool:
    """Return whether a cohort without a segment gets one now."""
    if not matched_users:
        return False
    if cohort.segment_limit is None:
        return True
    (segments,) = raw.execute(SQL["count_segments"], {"app": cohort.app}).fetchone()
    return bool(segments < cohort.segment_limit)


def create_segment(raw: sqlite3.Connection, cohort: CohortRow, run: int, at: int) -> Effect:
    """Create the segment of a cohort; every matched user of the list in force enters it."""
    # Read again: the caller's row may be of before the list changed hands.
    (list_in_force,) = raw.execute(SQL["list_in_force"], {"cohort": cohort.no}).fetchone()
    raw.execute(SQL["create_segment"], {"cohort": cohort.no})
    logged = {"cohort": cohort.no, "list": list_in_force, "run": run, "at": at}
    added = raw.execute(SQL["log_members"], {**logged, **cohort.membership}).rowcount
    _count_revision(raw, cohort, at)
    return Effect(added, 0)


def update_by_delta(
    raw: sqlite3.Connection,
    cohort: CohortRow,
    run: int,
    figures: DeltaFigures,
    at: int,
    *,
    delta: int | None = None,
) -> Effect:
    """Change a segment as its list changed.

    Args:
        raw: In the transaction that changed the list.
        cohort: The cohort as it was before.
        run: The run that the changes are logged under.
        figures: Those of the delta.
        at: When, UTC epoch milliseconds.
        delta: The run whose delta it is, if it is not `run` itself.
    """
    logged = {"cohort": cohort.no, "run": run, "at": at, **cohort.membership}
    logged["delta"] = run if delta is None else delta
    change = MembershipChange(
        figures.entering.minus(figures.leaving),
        figures.entering.matched_users,
        figures.leaving.matched_users,
        lambda: raw.execute(SQL["log_delta"], logged),
    )
    return update_segment(raw, cohort, run, change, at)


def _count_revision(raw: sqlite3.Connection, cohort: CohortRow, at: int) -> None:
    raw.execute(SQL["next_revision"], {"cohort": cohort.no, "at": at})
