"""What an operator decides: a held run is approved or rejected, a segment is rolled back."""

import sqlite3
from functools import partial

import anyio
import orjson

from relay.database.database import Database
from relay.errors import Conflict, NotFound
from relay.segments.cohort_row import load_cohort
from relay.segments.runs import (
    Outcome,
    RunRow,
    RunSource,
    RunState,
    begin_run,
    finish_run,
    load_run,
)
from relay.segments.sql import SQL
from relay.segments.staging import StagedList
from relay.segments.webhook import apply_held, change_list

UNDOABLE_RUNS = 3
"""Runs of a cohort whose deltas are kept, so that they can be undone."""


class Review:
    """Carries out the decisions about runs and segments."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._approvals = anyio.Lock()

    async def approve(self, run_id: int, at: int) -> None:
        """Apply a held run as it was downloaded or received, with its additions.

        Raises:
            NotFound: If there is none of that id.
            Conflict: If it is not held.
        """
        # Two approvals of one run would write the same delta at once.
        async with self._approvals:
            await self._approve(await self._held(run_id), at)

    async def _approve(self, run: RunRow, at: int) -> None:
        await self._database.execute(SQL["approve_run"], {"run": run.run_id})
        if run.source == RunSource.WEBHOOK:
            await self._database.write(partial(_approve_messages, run.run_id, at))
            return
        # The list in force may be another one than when the run was held: the staged list is
        # compared again, and applied without a guard.
        staged = StagedList(self._database, run.cohort, run.run_id)
        if (await staged.publish(None, at)).state is RunState.FAILED:
            raise Conflict(f"run {run.run_id} is not held any more")

    async def reject(self, run_id: int, at: int) -> None:
        """Drop a held run; its computation is neither downloaded nor held again.

        Raises:
            NotFound: If there is none of that id.
            Conflict: If it is not held.
        """
        await self._held(run_id)

        def change(raw: sqlite3.Connection) -> bool:
            rejected = {"run": run_id, "at": at, "reason": "rejected by a person"}
            if not raw.execute(SQL["reject_run"], rejected).rowcount:
                return False
            raw.execute(SQL["set_rejected"], {"run": run_id})
            raw.execute(SQL["discard_list"], {"list": run_id})
            return True

        if not await self._database.write(change):
            raise Conflict(f"run {run_id} is not held any more")

    async def roll_back(self, cohort: int, revision: int | None, at: int) -> int:
        """Undo the last runs that changed a cohort's list; return the id of the run that does so.

        Args:
            cohort: The cohort's number.
            revision: The revision to return to; None undoes one run.
            at: When, UTC epoch milliseconds.

        Raises:
            Conflict: If no kept run leads there.
        """
        return await self._database.write(partial(_roll_back, cohort, revision, at))

    async def _held(self, run_id: int) -> RunRow:
        run = await self._database.read(lambda raw: load_run(raw, run_id))
        if run is None:
            raise NotFound(f"there is no run {run_id}")
        if run.state != RunState.HELD:
            raise Conflict(f"run {run_id} is {run.state}, not held")
        return run


def _approve_messages(run_id: int, at: int, raw: sqlite3.Connection) -> None:
    run = load_run(raw, run_id)
    if run is None or run.state != RunState.HELD:
        raise Conflict(f"run {run_id} is not held any more")
    apply_held(raw, run_id, load_cohort(raw, run.cohort), run.computed_at or 0, at)


def _roll_back(cohort_no: int, revision: int | None, at: int, raw: sqlite3.Connection) -> int:
    cohort = load_cohort(raw, cohort_no)
    kept = {"cohort": cohort_no, "count": UNDOABLE_RUNS}
    undoable = raw.execute(SQL["undoable_runs"], kept).fetchall()
    undone = [
        run
        for place, (run, _, _, made, *_) in enumerate(undoable)
        if (place == 0 if revision is None else made > revision)
    ]
    if not undone or not _leads_to(raw, cohort_no, undone, revision):
        raise Conflict("there is nothing kept that could be undone to get there")
    # The inverse is a delta of its own, so that a rollback can be undone like any other run.
    run = begin_run(raw, cohort_no, RunSource.ROLLBACK, at)
    in_force = {"list": cohort.list, "list_at": cohort.list_at}
    raw.execute(SQL["undo"], {"run": run, "runs": orjson.dumps(undone).decode(), **in_force})
    before = raw.execute(SQL["empty_ids_at"], {"cohort": cohort_no, "run": min(undone)}).fetchone()
    raw.execute(
        SQL["set_empty_ids"], {"cohort": cohort_no, "empty_ids": before[0] if before else 0}
    )
    effect = change_list(raw, cohort, run, at)
    finish_run(raw, run, Outcome(RunState.APPLIED, effect.added, effect.removed), at)
    return run


def _leads_to(
    raw: sqlite3.Connection, cohort: int, undone: list[int], revision: int | None
) -> bool:
    """Return whether undoing these runs reaches a revision, and does not stop short of it."""
    if revision is None:
        return True
    oldest = {"cohort": cohort, "run": min(undone)}
    (before,) = raw.execute(SQL["revision_before"], oldest).fetchone()
    return before is None or revision >= before
