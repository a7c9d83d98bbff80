"""A new list takes shape beside the one in force, piece by piece, and is compared with it.

Pieces come sorted, so each is one short transaction that touches neighbouring pages, and the
comparison advances with them. No reader sees the list before it is published.
"""

import sqlite3
from functools import partial

from relay.database.database import Database
from relay.segments.cohort_row import CohortRow, Comparison, load_cohort
from relay.segments.guard import GuardPolicy
from relay.segments.publish import publish
from relay.segments.runs import Outcome
from relay.segments.sorting import Piece
from relay.segments.sql import SQL

RANGE_IDS = 20_000
"""Ids compared in one transaction: some tens of milliseconds."""


class StagedList:
    """The list of one run, until it is published."""

    def __init__(self, database: Database, cohort: int, run: int) -> None:
        self._database = database
        self._cohort = cohort
        self._run = run
        self._compared: Comparison | None = None

    async def begin(self) -> None:
        """Remember what the pieces to come are compared with."""
        self._compared = await self._database.read(
            lambda raw: load_cohort(raw, self._cohort).comparison
        )

    async def add(self, piece: Piece) -> None:
        """Add distinct ids, and compare their range with the list in force."""

        def change(raw: sqlite3.Connection) -> None:
            cohort = load_cohort(raw, self._cohort)
            in_force = {"old": cohort.list, "list_at": cohort.list_at}
            raw.execute(SQL["stage"], {"list": self._run, "ids": piece.rows, **in_force})
            _compare_range(raw, cohort, self._run, piece.after, piece.upto)

        await self._database.write(change)

    async def set_counts(self, members: int, empty_ids: int) -> None:
        """Store how many distinct and how many empty ids the file had."""
        counts = {"run": self._run, "members": members, "empty_ids": empty_ids}
        await self._database.execute(SQL["set_members"], counts)

    async def publish(self, guard: GuardPolicy | None, at: int) -> Outcome:
        """Bring the list into force, or hold it; failed if its run has ended already.

        Args:
            guard: Which removals are held; None applies the list whatever it removes.
            at: When, UTC epoch milliseconds.
        """
        while True:
            # A list that was staged by an earlier process, or that is approved only now, has not
            # been compared in this one.
            if self._compared is None:
                self._compared = await self._compare_all()
            outcome = await self._database.write(
                partial(_publish, self._run, self._compared, guard, at)
            )
            if outcome is not None:
                return outcome
            self._compared = None  # another list came into force meanwhile

    async def _compare_all(self) -> Comparison:
        """Compare the whole list, range by range; return the state it was compared with."""
        scope = (self._cohort, self._run)
        compared = await self._database.write(partial(_begin_comparison, *scope))
        after: str | None = ""
        while after is not None:
            after = await self._database.write(partial(_compare_next, *scope, after))
        return compared


def _publish(
    run: int, compared: Comparison, guard: GuardPolicy | None, at: int, raw: sqlite3.Connection
) -> Outcome | None:
    return publish(raw, run, compared, guard, at)


def _begin_comparison(cohort: int, run: int, raw: sqlite3.Connection) -> Comparison:
    raw.execute(SQL["drop_delta"], {"run": run})
    return load_cohort(raw, cohort).comparison


def _compare_next(cohort: int, run: int, after: str, raw: sqlite3.Connection) -> str | None:
    """Compare the next range; return its last id, None at the end of the list."""
    step = {"list": run, "after": after, "count": RANGE_IDS}
    row = raw.execute(SQL["range_end"], step).fetchone()
    upto = row[0] if row else None
    _compare_range(raw, load_cohort(raw, cohort), run, after, upto)
    return upto


def _compare_range(
    raw: sqlite3.Connection, cohort: CohortRow, run: int, after: str, upto: str | None
) -> None:
    bounds = {"list": run, "old": cohort.list, "after": after, "upto": upto}
    raw.execute(SQL["add_delta_entered"], bounds)
    raw.execute(SQL["add_delta_left"], {**bounds, "list_at": cohort.list_at})
