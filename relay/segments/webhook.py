"""Amplitude's cohort webhook, applied: some users entered a cohort, or some left it.

Messages come repeated and out of order. A message is applied once. Each leaves an *override* for
its users: of two messages about one user the one of the later computation wins, and a downloaded
list counts as a message about everybody. Leavers of one computation are counted together: from
the message that passes the guard's limit on, the rest of that computation is held.
"""

import sqlite3
from functools import partial
from typing import NamedTuple

import orjson

from relay.amplitude.cohort_message import CohortMessage
from relay.database.database import Database
from relay.segments.cohort_row import (
    CohortRow,
    DeltaFigures,
    load_cohort,
    measure_delta,
)
from relay.segments.erasure import ForgottenUsers
from relay.segments.guard import EarlierMessages, GuardPolicy, reason_to_hold
from relay.segments.runs import Outcome, RunSource, RunState, begin_run, finish_run
from relay.segments.segment_update import Effect, update_by_delta
from relay.segments.sql import SQL

ONE_MESSAGE = 0
"""Holds the delta of one message, as if it were a run, while the message is applied."""


class MessageAnswer(NamedTuple):
    """What a message did: members who entered and left, or why nothing changed."""

    added: int = 0
    removed: int = 0
    is_duplicate: bool = False
    is_held: bool = False


class _Computation(NamedTuple):
    """The earlier messages of one computation.

    Attributes:
        applied: What the applied ones did, None before the first.
        held: The run that gathers the held ones.
        is_rejected: Whether an operator rejected it.
        is_approved: Whether an operator approved what was held of it.
    """

    applied: EarlierMessages | None
    held: int | None
    is_rejected: bool
    is_approved: bool


class WebhookMessages:
    """Applies messages to the cohorts they name."""

    def __init__(self, database: Database, forgotten: ForgottenUsers) -> None:
        self._database = database
        self._forgotten = forgotten

    async def apply(
        self, app: int, message: CohortMessage, guard: GuardPolicy, at: int
    ) -> MessageAnswer:
        """Apply a message, or hold it, leaving forgotten users out; return after the sync.

        Args:
            app: The app's number.
            message: What Amplitude says.
            guard: Which removals are held.
            at: When the message arrived, UTC epoch milliseconds.

        Raises:
            StoreFull: If there is no room; nothing of it is applied.
            StoreFailed: If the disk failed; the process must end.
        """
        kept = self._forgotten.without(app, list(message.user_ids))
        wanted = message._replace(user_ids=tuple(kept))
        return await self._database.write(partial(_apply_message, app, wanted, guard, at))


def apply_held(
    raw: sqlite3.Connection, run: int, cohort: CohortRow, computed_at: int, at: int
) -> None:
    """Apply what is held of a computation, except for users with a newer override."""
    scope = {"run": run, "cohort": cohort.no, "list": cohort.list, "computed_at": computed_at}
    raw.execute(SQL["drop_void_delta"], scope)
    raw.execute(SQL["set_entry_instants"], {**scope, "list_at": cohort.list_at})
    raw.execute(SQL["override_by_run"], {**scope, "webhook_seq": _next_seq(raw, cohort)})
    effect = change_list(raw, cohort, run, at)
    finish_run(raw, run, Outcome(RunState.APPLIED, effect.added, effect.removed), at)
    raw.execute(SQL["set_computed"], {"cohort": cohort.no, "computed_at": computed_at, "at": at})


def change_list(raw: sqlite3.Connection, cohort: CohortRow, run: int, at: int) -> Effect:
    """Apply a run's delta to the list in force, and to the segment."""
    delta = measure_delta(raw, cohort, run)
    scope = {"list": cohort.list, "delta": run, "at": at}
    raw.execute(SQL["enter"], scope)
    raw.execute(SQL["leave"], scope)
    raw.execute(SQL["change_list"], {"cohort": cohort.no, "at": at})
    return update_by_delta(raw, cohort, run, delta, at)


def _apply_message(
    app: int, message: CohortMessage, guard: GuardPolicy, at: int, raw: sqlite3.Connection
) -> MessageAnswer:
    arrived = {"app": app, "message_id": message.message_id, "at": at}
    if not raw.execute(SQL["add_message"], arrived).rowcount:
        return MessageAnswer(is_duplicate=True)
    cohort = _find_cohort(raw, app, message)
    earlier = _find_computation(raw, cohort, message)
    # A download of a later computation has said it all; a rejected computation stays rejected.
    if earlier.is_rejected or message.computed_at < (cohort.applied_computed_at or 0):
        return MessageAnswer()
    # Once a part of a computation is held, all that follows is: an operator decides on the whole,
    # and messages that enter the same users must not overtake those that wait.
    if earlier.held is not None:
        _add_to_held(raw, earlier.held, message)
        return MessageAnswer(is_held=True)
    _compare(raw, cohort, message)
    delta = measure_delta(raw, cohort, ONE_MESSAGE)
    # An approval is of the whole computation, also of what is still to come of it.
    if not earlier.is_approved:
        reason = reason_to_hold(raw, guard, cohort, delta.leaving, earlier.applied)
        if reason:
            _hold(raw, cohort, message, reason, at)
            return MessageAnswer(is_held=True)
    cohort, run = _open_run(raw, cohort, earlier, message, at)
    effect = _apply(raw, cohort, run, message, delta, at)
    return MessageAnswer(effect.added, effect.removed)


def _find_cohort(raw: sqlite3.Connection, app: int, message: CohortMessage) -> CohortRow:
    named = {"app": app, "cohort_id": message.cohort_id, "name": message.cohort_name}
    raw.execute(SQL["add_cohort"], named)
    (no,) = raw.execute(SQL["cohort_no"], named).fetchone()
    renamed = {"cohort": no, "name": message.cohort_name, "computed_at": message.computed_at}
    raw.execute(SQL["rename_cohort"], renamed)
    return load_cohort(raw, no)


def _find_computation(
    raw: sqlite3.Connection, cohort: CohortRow, message: CohortMessage
) -> _Computation:
    scope = {"cohort": cohort.no, "computed_at": message.computed_at}
    rows = raw.execute(SQL["message_runs"], scope).fetchall()
    runs = {state: EarlierMessages(run, removed) for state, run, _, removed in reversed(rows)}
    held = runs.get(RunState.HELD)
    return _Computation(
        applied=runs.get(RunState.APPLIED),
        held=held.run if held else None,
        is_rejected=RunState.REJECTED in runs,
        is_approved=any(is_approved for _, _, is_approved, _ in rows),
    )


def _compare(raw: sqlite3.Connection, cohort: CohortRow, message: CohortMessage) -> None:
    """Make the message's delta: its users without a newer override, where the list differs."""
    raw.execute(SQL["drop_delta"], {"run": ONE_MESSAGE})
    raw.execute(
        SQL["add_delta_of_message"],
        {
            "ids": _json(message.user_ids),
            "is_member": message.is_entering,
            "cohort": cohort.no,
            "list": cohort.list,
            "list_at": cohort.list_at,
            "computed_at": message.computed_at,
        },
    )


def _open_run(
    raw: sqlite3.Connection,
    cohort: CohortRow,
    earlier: _Computation,
    message: CohortMessage,
    at: int,
) -> tuple[CohortRow, int]:
    """Return the run that gathers a computation, and the cohort with a list to change."""
    if earlier.applied:
        run = earlier.applied.run
    else:
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


def _apply(
    raw: sqlite3.Connection,
    cohort: CohortRow,
    run: int,
    message: CohortMessage,
    delta: DeltaFigures,
    at: int,
) -> Effect:
    scope = {"list": cohort.list, "delta": ONE_MESSAGE, "at": at}
    raw.execute(SQL["enter"], scope)
    raw.execute(SQL["leave"], scope)
    # Overrides are of every user named, not only of those who moved: an older message or list
    # that comes later must not move them either.
    named = {"cohort": cohort.no, "computed_at": message.computed_at}
    override = {"ids": _json(message.user_ids), "is_member": message.is_entering}
    raw.execute(SQL["override"], {**named, **override, "webhook_seq": _next_seq(raw, cohort)})
    raw.execute(SQL["set_computed"], {**named, "at": at})
    effect = update_by_delta(raw, cohort, run, delta, at, delta=ONE_MESSAGE)
    _gather(raw, run)
    finish_run(
        raw,
        run,
        Outcome(RunState.APPLIED, effect.added, effect.removed, delta.entering.unknown_users),
        at,
    )
    return effect


def _next_seq(raw: sqlite3.Connection, cohort: CohortRow) -> int:
    """Count a message, for comparisons that began before it; a clock could be set back."""
    return int(raw.execute(SQL["next_webhook_seq"], {"cohort": cohort.no}).fetchone()[0])


def _gather(raw: sqlite3.Connection, run: int) -> None:
    """Merge the delta of one message into that of its run, for the guard and for a rollback."""
    cancelled = raw.execute(SQL["cancel_opposites"], {"run": run}).fetchall()
    raw.execute(SQL["merge_delta"], {"run": run, "cancelled": _json([id_ for (id_,) in cancelled])})
    raw.execute(SQL["drop_delta"], {"run": ONE_MESSAGE})


def _hold(
    raw: sqlite3.Connection, cohort: CohortRow, message: CohortMessage, reason: str, at: int
) -> None:
    raw.execute(SQL["drop_delta"], {"run": ONE_MESSAGE})
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
    raw.execute(SQL["hold_message"], held)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
