"""A staged list comes into force: one short transaction from one whole revision to the next.

    overrides of newer webhook messages -> delta -> guard -> hold, or bring into force

The list itself only changes hands: the cohort points to another one. What is written is what
that means, all in one transaction: the segment's figures, its changes, the run's end.
"""

import sqlite3

from relay.segments.cohort_row import (
    CohortRow,
    Comparison,
    DeltaFigures,
    Figures,
    load_cohort,
    measure_delta,
)
from relay.segments.guard import GuardPolicy, reason_to_hold
from relay.segments.runs import (
    Outcome,
    RunRow,
    RunState,
    finish_run,
    load_run,
    supersede_held,
)
from relay.segments.segment_update import update_by_delta
from relay.segments.sql import SQL


def publish(
    raw: sqlite3.Connection,
    run_id: int,
    compared: Comparison,
    guard: GuardPolicy | None,
    at: int,
) -> Outcome | None:
    """Bring a run's list into force, or hold it; None if it must be compared again.

    Args:
        raw: In a transaction.
        run_id: The run, running or held.
        compared: The state its list was compared with.
        guard: Which removals are held; None applies the run whatever it removes.
        at: When, UTC epoch milliseconds.
    """
    run = load_run(raw, run_id)
    if run is None or run.state not in {RunState.RUNNING, RunState.HELD}:
        return Outcome(RunState.FAILED, reason="the run has ended already")
    cohort = load_cohort(raw, run.cohort)
    if cohort.version != compared.version:
        # Another list came into force since: the delta is against one that is gone.
        return None
    _apply_overrides(raw, cohort, run, compared.webhook_seq)
    delta = measure_delta(raw, cohort, run_id)
    if guard and (reason := reason_to_hold(raw, guard, cohort, delta.leaving)):
        return _hold(raw, run, reason, at)
    return _apply(raw, cohort, run, delta, at)


def _apply_overrides(
    raw: sqlite3.Connection, cohort: CohortRow, run: RunRow, webhook_seq: int
) -> None:
    """Let webhook messages of later computations stand, and repair the delta for their users.

    Staging compared the list without a lock, range by range, while messages went on to change
    the list in force. So the users that a message named since the comparison began are compared
    again here, by index: a few users, not the list.
    """
    scope = {
        "cohort": cohort.no,
        "list": run.run_id,
        "old": cohort.list,
        "list_at": cohort.list_at,
        "computed_at": run.computed_at or 0,
        "webhook_seq": webhook_seq,
    }
    for query in (
        "overrides_enter",
        "overrides_leave",
        "drop_overridden_delta",
        "redo_delta_entered",
        "redo_delta_left",
    ):
        raw.execute(SQL[query], scope)


def _hold(raw: sqlite3.Connection, run: RunRow, reason: str, at: int) -> Outcome:
    outcome = Outcome(RunState.HELD, reason=reason)
    finish_run(raw, run.run_id, outcome, at)
    # One decision at a time: an older held computation is out of date by now.
    supersede_held(raw, run, at)
    return outcome


def _apply(
    raw: sqlite3.Connection, cohort: CohortRow, run: RunRow, delta: DeltaFigures, at: int
) -> Outcome:
    # If nothing changed, the old list stays in force and the copy is dropped; the computation
    # counts as applied all the same, or it would be downloaded again.
    is_changed = delta.entering.ids > 0 or delta.leaving.ids > 0 or not cohort.list
    in_force = run.run_id if is_changed else cohort.list
    raw.execute(
        SQL["bring_into_force"],
        {
            "cohort": cohort.no,
            "list": in_force,
            "at": at if is_changed else cohort.list_at,
            "now": at,
            "empty_ids": run.empty_ids,
            "computed_at": run.computed_at,
            "mod_at": run.mod_at,
            "listed_size": run.listed_size,
        },
    )
    raw.execute(SQL["discard_list"], {"list": cohort.list if is_changed else run.run_id})
    raw.execute(SQL["drop_overrides"], {"cohort": cohort.no, "computed_at": run.computed_at or 0})
    effect = update_by_delta(raw, cohort, run.run_id, delta, at)
    figures = Figures(*raw.execute(SQL["figures"], {"cohort": cohort.no}).fetchone())
    state = RunState.APPLIED if is_changed else RunState.UNCHANGED
    outcome = Outcome(state, effect.added, effect.removed, figures.unknown_users)
    finish_run(raw, run.run_id, outcome, at)
    supersede_held(raw, run, at)
    return outcome
