"""Amplitude's cohort webhook: some users entered a cohort, or some left it.

Messages come repeated and out of order. A message is taken once; of two words about one user
the one of the later computation counts, and a downloaded list counts like a word about
everybody. Leavers of one computation are counted together: past the guard's limit the rest of
that computation is held.
"""

import sqlite3
from typing import NamedTuple

import orjson

from relay.amplitude.cohort_message import CohortMessage
from relay.segments.cohort_row import CohortRow, Figures, load_cohort, weigh_changes, weigh_shrink
from relay.segments.guard import GuardPolicy, explain_hold, is_implausible
from relay.segments.runs import Outcome, RunSource, RunState, begin_run, finish_run
from relay.segments.segment_update import Effect, shift_by_changes
from relay.segments.sql import SQL

ONE_MESSAGE = 0
"""Stands for a run while the changes of one message are applied."""


class MessageAnswer(NamedTuple):
    """What became of a message: members it brought and took, or why none."""

    added: int = 0
    removed: int = 0
    is_duplicate: bool = False
    is_held: bool = False


class _Computation(NamedTuple):
    """What became of earlier messages of one computation.

    Attributes:
        applied: The run that gathers what was applied, None before the first.
        held: The run that gathers what is held.
        is_rejected: Whether a person rejected it.
        is_approved: Whether a person approved what was held of it.
    """

    applied: int | None
    held: int | None
    is_rejected: bool
    is_approved: bool


def take_message(
    raw: sqlite3.Connection, app: int, message: CohortMessage, guard: GuardPolicy, at: int
) -> MessageAnswer:
    """Apply a message, or hold it.

    Args:
        raw: In a transaction.
        app: The app's number.
        message: What Amplitude says.
        guard: How many leavers are implausible.
        at: When it came.
    """
    taken = {"app": app, "message_id": message.message_id, "at": at}
    if not raw.execute(SQL["take_message"], taken).rowcount:
        return MessageAnswer(is_duplicate=True)
    cohort = _cohort_of(raw, app, message)
    before = _look_back(raw, cohort, message)
    if before.is_rejected or message.computed_at < (cohort.applied_computed_at or 0):
        return MessageAnswer()
    if before.held is not None:
        _add_to_held(raw, before.held, message)
        return MessageAnswer(is_held=True)
    _compare(raw, cohort, message)
    entering, leaving = weigh_changes(raw, cohort, ONE_MESSAGE)
    # An approval is of the whole computation; a message that takes no member shrinks nothing.
    if cohort.is_segment and leaving.matched_users and not before.is_approved:
        shrink = weigh_shrink(raw, cohort, leaving, before.applied)
        if is_implausible(guard, shrink):
            _hold(raw, cohort, message, explain_hold(guard, shrink), at)
            return MessageAnswer(is_held=True)
    cohort, run = _run_for(raw, cohort, before, message, at)
    effect = _apply(raw, cohort, run, message, (entering, leaving), at)
    return MessageAnswer(effect.added, effect.removed)


def apply_held(
    raw: sqlite3.Connection, run: int, cohort: CohortRow, computed_at: int, at: int
) -> None:
    """Apply what is held of a computation, unless a newer word overtook it."""
    scope = {"run": run, "cohort": cohort.no, "list": cohort.list, "computed_at": computed_at}
    raw.execute(SQL["drop_void_changes"], scope)
    raw.execute(SQL["recall_entries"], {**scope, "list_at": cohort.list_at})
    raw.execute(SQL["mark_changes"], {**scope, "word": _next_word(raw, cohort)})
    effect = change_list(raw, cohort, run, at)
    finish_run(raw, run, Outcome(RunState.APPLIED, effect.added, effect.removed), at)
    raw.execute(SQL["note_computed"], {"cohort": cohort.no, "computed_at": computed_at, "at": at})


def change_list(raw: sqlite3.Connection, cohort: CohortRow, run: int, at: int) -> Effect:
    """Change the list in force as a run's own changes say, and the segment with it."""
    entering, leaving = weigh_changes(raw, cohort, run)
    scope = {"list": cohort.list, "delta": run, "at": at}
    raw.execute(SQL["enter"], scope)
    raw.execute(SQL["leave"], scope)
    raw.execute(SQL["change_list"], {"cohort": cohort.no, "at": at})
    return shift_by_changes(raw, cohort, run, entering, leaving, at=at)


def _cohort_of(raw: sqlite3.Connection, app: int, message: CohortMessage) -> CohortRow:
    named = {"app": app, "cohort_id": message.cohort_id, "name": message.cohort_name}
    raw.execute(SQL["add_cohort"], named)
    (no,) = raw.execute(SQL["cohort_no"], named).fetchone()
    renamed = {"cohort": no, "name": message.cohort_name, "computed_at": message.computed_at}
    raw.execute(SQL["rename_cohort"], renamed)
    return load_cohort(raw, no)


def _look_back(raw: sqlite3.Connection, cohort: CohortRow, message: CohortMessage) -> _Computation:
    scope = {"cohort": cohort.no, "computed_at": message.computed_at}
    rows = raw.execute(SQL["message_runs"], scope).fetchall()
    runs = {state: run for state, run, _ in reversed(rows)}
    return _Computation(
        applied=runs.get(RunState.APPLIED),
        held=runs.get(RunState.HELD),
        is_rejected=RunState.REJECTED in runs,
        is_approved=any(is_approved for _, _, is_approved in rows),
    )


def _run_for(
    raw: sqlite3.Connection,
    cohort: CohortRow,
    before: _Computation,
    message: CohortMessage,
    at: int,
) -> tuple[CohortRow, int]:
    """Return the run that gathers a computation, and the cohort with a list to change."""
    run = before.applied
    if run is None:
        run = begin_run(
            raw,
            cohort.no,
            RunSource.WEBHOOK,
            at,
            state=RunState.APPLIED,
            computed_at=message.computed_at,
        )
    counted = {"run": run, "members": len(message.user_ids), "empty_ids": message.empty_ids}
    raw.execute(SQL["add_members"], counted)
    raw.execute(SQL["begin_list"], {"cohort": cohort.no, "run": run, "at": at})
    return load_cohort(raw, cohort.no), run


def _compare(raw: sqlite3.Connection, cohort: CohortRow, message: CohortMessage) -> None:
    raw.execute(SQL["drop_changes"], {"run": ONE_MESSAGE})
    raw.execute(
        SQL["diff_message"],
        {
            "ids": _json(message.user_ids),
            "is_member": message.is_entering,
            "cohort": cohort.no,
            "list": cohort.list,
            "list_at": cohort.list_at,
            "computed_at": message.computed_at,
        },
    )


def _apply(
    raw: sqlite3.Connection,
    cohort: CohortRow,
    run: int,
    message: CohortMessage,
    moved: tuple[Figures, Figures],
    at: int,
) -> Effect:
    entering, leaving = moved
    scope = {"list": cohort.list, "delta": ONE_MESSAGE, "at": at}
    raw.execute(SQL["enter"], scope)
    raw.execute(SQL["leave"], scope)
    told = {"cohort": cohort.no, "computed_at": message.computed_at}
    marked = {"ids": _json(message.user_ids), "is_member": message.is_entering}
    raw.execute(SQL["mark"], {**told, **marked, "word": _next_word(raw, cohort)})
    raw.execute(SQL["note_computed"], {**told, "at": at})
    effect = shift_by_changes(raw, cohort, run, entering, leaving, at=at, delta=ONE_MESSAGE)
    _gather(raw, run)
    finish_run(
        raw,
        run,
        Outcome(RunState.APPLIED, effect.added, effect.removed, entering.unknown_users),
        at,
    )
    return effect


def _next_word(raw: sqlite3.Connection, cohort: CohortRow) -> int:
    return int(raw.execute(SQL["next_word"], {"cohort": cohort.no}).fetchone()[0])


def _gather(raw: sqlite3.Connection, run: int) -> None:
    """Add the changes of one message to those of its run, for a rollback."""
    cancelled = raw.execute(SQL["cancel_opposites"], {"run": run}).fetchall()
    raw.execute(
        SQL["keep_changes"], {"run": run, "cancelled": _json([id_ for (id_,) in cancelled])}
    )
    raw.execute(SQL["drop_changes"], {"run": ONE_MESSAGE})


def _hold(
    raw: sqlite3.Connection, cohort: CohortRow, message: CohortMessage, reason: str, at: int
) -> None:
    raw.execute(SQL["drop_changes"], {"run": ONE_MESSAGE})
    run = begin_run(
        raw,
        cohort.no,
        RunSource.WEBHOOK,
        at,
        state=RunState.HELD,
        computed_at=message.computed_at,
    )
    finish_run(raw, run, Outcome(RunState.HELD, reason=reason), at)
    _add_to_held(raw, run, message)


def _add_to_held(raw: sqlite3.Connection, run: int, message: CohortMessage) -> None:
    counted = {"run": run, "members": len(message.user_ids), "empty_ids": message.empty_ids}
    raw.execute(SQL["add_members"], counted)
    held = {"run": run, "ids": _json(message.user_ids), "is_member": message.is_entering}
    raw.execute(SQL["hold_changes"], held)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
