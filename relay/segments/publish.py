"""A staged list comes into force: one short transaction from one whole revision to the next.

The list itself only changes hands. What is written is what the change means: the segment's
figures, what its followers are told, and the run's end.
"""

import sqlite3

from relay.segments.cohort_row import (
    CohortRow,
    Comparison,
    Figures,
    load_cohort,
    weigh_changes,
    weigh_shrink,
)
from relay.segments.guard import GuardPolicy, explain_hold, is_implausible
from relay.segments.runs import (
    Outcome,
    RunRow,
    RunState,
    finish_run,
    load_run,
    supersede_held,
)
from relay.segments.segment_update import shift_by_changes
from relay.segments.sql import SQL


def publish(
    raw: sqlite3.Connection,
    run_id: int,
    compared: Comparison,
    guard: GuardPolicy | None,
    at: int,
) -> Outcome | None:
    """Bring a run's list into force, or hold it; None if it must be compared anew.

    Args:
        raw: In a transaction.
        run_id: The run, running or held.
        compared: What its list was compared with.
        guard: What is implausible; None applies the run whatever it removes.
        at: When.
    """
    run = load_run(raw, run_id)
    if run is None or run.state not in {RunState.RUNNING, RunState.HELD}:
        return Outcome(RunState.FAILED, reason="the run has ended already")
    cohort = load_cohort(raw, run.cohort)
    if cohort.version != compared.version:
        return None
    _heed_webhook(raw, cohort, run, compared.words)
    entering, leaving = weigh_changes(raw, cohort, run_id)
    shrink = weigh_shrink(raw, cohort, leaving)
    if guard and cohort.is_segment and is_implausible(guard, shrink):
        return _hold(raw, cohort, run, explain_hold(guard, shrink), at)
    return _apply(raw, cohort, run, entering, leaving, at)


def _heed_webhook(raw: sqlite3.Connection, cohort: CohortRow, run: RunRow, words: int) -> None:
    """Let the newer words of the webhook stand, and compare anew whom it spoke of meanwhile."""
    scope = {
        "cohort": cohort.no,
        "list": run.run_id,
        "old": cohort.list,
        "list_at": cohort.list_at,
        "computed_at": run.computed_at or 0,
        "words": words,
    }
    for query in (
        "overlay_entering",
        "overlay_leaving",
        "drop_marked_changes",
        "diff_marked_entered",
        "diff_marked_left",
    ):
        raw.execute(SQL[query], scope)


def _hold(raw: sqlite3.Connection, cohort: CohortRow, run: RunRow, reason: str, at: int) -> Outcome:
    outcome = Outcome(RunState.HELD, reason=reason)
    finish_run(raw, run.run_id, outcome, at)
    supersede_held(raw, cohort.no, run.run_id, at, up_to=run.computed_at or 0)
    return outcome


def _apply(  # a change of a list, whole
    raw: sqlite3.Connection,
    cohort: CohortRow,
    run: RunRow,
    entering: Figures,
    leaving: Figures,
    at: int,
) -> Outcome:
    is_changed = entering.ids > 0 or leaving.ids > 0 or not cohort.list
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
    raw.execute(SQL["drop_marks"], {"cohort": cohort.no, "computed_at": run.computed_at or 0})
    effect = shift_by_changes(raw, cohort, run.run_id, entering, leaving, at=at)
    figures = Figures(*raw.execute(SQL["figures"], {"cohort": cohort.no}).fetchone())
    state = RunState.APPLIED if is_changed else RunState.UNCHANGED
    outcome = Outcome(state, effect.added, effect.removed, figures.unknown_users)
    finish_run(raw, run.run_id, outcome, at)
    supersede_held(raw, cohort.no, run.run_id, at, up_to=run.computed_at or 0)
    return outcome
