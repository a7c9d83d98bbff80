"""What a changed list or directory does to a segment: figures, changes told, a new revision.

Called in the transaction that changes the list or the directory, so that a reader sees all of
it or nothing.
"""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from relay.segments.cohort_row import CohortRow, Figures
from relay.segments.sql import SQL


class Effect(NamedTuple):
    """What became of a segment: members who entered it, and who left it."""

    added: int
    removed: int


class MembershipChange(NamedTuple):
    """How a segment is to change.

    Attributes:
        figures: The difference of its figures.
        added: Members who enter.
        removed: Members who leave.
        log: Tells the followers of them, given the run.
    """

    figures: Figures
    added: int
    removed: int
    log: Callable[[], object]


def shift_segment(
    raw: sqlite3.Connection, cohort: CohortRow, run: int, shift: MembershipChange, at: int
) -> Effect:
    """Move a segment's figures, tell its followers, and count its revision.

    A cohort gets its segment with the first matched user, unless its app has reached its limit.
    """
    matched_users = move_figures(raw, cohort.no, shift.figures)
    if cohort.is_segment:
        if not shift.added and not shift.removed:
            return Effect(0, 0)
        shift.log()
        _count_revision(raw, cohort, at)
        return Effect(shift.added, shift.removed)
    if not may_become_segment(raw, cohort, matched_users):
        return Effect(0, 0)
    return create_segment(raw, cohort, run, at)


def move_figures(raw: sqlite3.Connection, cohort: int, step: Figures) -> int:
    """Change the figures of a cohort; return how many users match now."""
    moved = raw.execute(SQL["move_figures"], {"cohort": cohort, **step._asdict()})
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
    """Make the segment of a cohort; everybody on the list in force who matches enters it."""
    (list_in_force,) = raw.execute(SQL["list_in_force"], {"cohort": cohort.no}).fetchone()
    raw.execute(SQL["create_segment"], {"cohort": cohort.no})
    logged = {"cohort": cohort.no, "list": list_in_force, "run": run, "at": at, **cohort.scope}
    added = raw.execute(SQL["log_members"], logged).rowcount
    _count_revision(raw, cohort, at)
    return Effect(added, 0)


def shift_by_changes(  # noqa: PLR0913  # a change of a list, whole
    raw: sqlite3.Connection,
    cohort: CohortRow,
    run: int,
    entering: Figures,
    leaving: Figures,
    *,
    at: int,
    delta: int | None = None,
) -> Effect:
    """Change a segment as its list changed.

    Args:
        raw: In the transaction that changed the list.
        cohort: The cohort as it was before.
        run: Under which the followers are told.
        entering: Figures of who enters the list.
        leaving: Figures of who leaves it.
        at: When.
        delta: The run whose changes of the list they are, if it is not `run` itself.
    """
    told = {"cohort": cohort.no, "run": run, "at": at, **cohort.scope}
    told["delta"] = run if delta is None else delta
    shift = MembershipChange(
        entering.less(leaving),
        entering.matched_users,
        leaving.matched_users,
        lambda: raw.execute(SQL["log_changes"], told),
    )
    return shift_segment(raw, cohort, run, shift, at)


def _count_revision(raw: sqlite3.Connection, cohort: CohortRow, at: int) -> None:
    raw.execute(SQL["next_revision"], {"cohort": cohort.no, "at": at})
