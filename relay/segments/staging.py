"""A new list takes shape beside the one in force, piece by piece, and is compared with it.

Pieces come sorted, so each is one short transaction that touches neighbouring pages, and the
comparison advances with them. Nobody sees the list before `publish` brings it into force.
"""

import sqlite3
from functools import partial

from relay.database.database import Database
from relay.segments.cohort_row import CohortRow, Comparison, load_cohort
from relay.segments.sorting import Piece
from relay.segments.sql import SQL

RANGE_IDS = 20_000
"""Ids compared in one transaction: some tens of milliseconds."""


class Staging:
    """The list of one run, until it is published.

    Attributes:
        run: The run, whose id names the list.
    """

    def __init__(self, database: Database, cohort: int, run: int) -> None:
        self._database = database
        self._cohort = cohort
        self.run = run

    async def add(self, piece: Piece) -> None:
        """Add distinct ids, and compare their range with the list in force."""

        def change(raw: sqlite3.Connection) -> None:
            cohort = load_cohort(raw, self._cohort)
            in_force = {"old": cohort.list, "list_at": cohort.list_at}
            raw.execute(SQL["stage"], {"list": self.run, "ids": piece.rows, **in_force})
            _compare(raw, cohort, self.run, piece.after, piece.upto)

        await self._database.write(change)

    async def compare(self) -> Comparison:
        """Compare the whole list anew; return what it is compared with.

        The list in force may be replaced meanwhile; publishing then says so.
        """
        compared = await self._database.write(partial(_begin_comparison, self._cohort, self.run))
        after: str | None = ""
        while after is not None:
            after = await self._database.write(
                partial(_compare_next, self._cohort, self.run, after)
            )
        return compared

    async def begin(self) -> Comparison:
        """Return what the pieces added from now on are compared with."""
        return await self._database.read(lambda raw: load_cohort(raw, self._cohort).compared)

    async def note_members(self, members: int, empty_ids: int) -> None:
        """Remember how many distinct and how many empty ids the file had."""
        counted = {"run": self.run, "members": members, "empty_ids": empty_ids}
        await self._database.execute(SQL["note_members"], counted)


def _compare(
    raw: sqlite3.Connection, cohort: CohortRow, run: int, after: str, upto: str | None
) -> None:
    bounds = {"list": run, "old": cohort.list, "after": after, "upto": upto}
    raw.execute(SQL["diff_entered"], bounds)
    raw.execute(SQL["diff_left"], {**bounds, "list_at": cohort.list_at})


def _begin_comparison(cohort: int, run: int, raw: sqlite3.Connection) -> Comparison:
    raw.execute(SQL["drop_changes"], {"run": run})
    return load_cohort(raw, cohort).compared


def _compare_next(cohort: int, run: int, after: str, raw: sqlite3.Connection) -> str | None:
    """Compare the next range; return where it ends, None at the end of the list."""
    step = {"list": run, "after": after, "count": RANGE_IDS}
    row = raw.execute(SQL["range_end"], step).fetchone()
    upto = row[0] if row else None
    _compare(raw, load_cohort(raw, cohort), run, after, upto)
    return upto
