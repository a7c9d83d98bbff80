"""Quarantine: bodies that could not be understood, raw, until an operator decides."""

import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import orjson

from relay.database.database import Database, Row
from relay.outbox.counters import AppCounters
from relay.outbox.selection import Selection
from relay.outbox.sql import SQL

PAGE_BYTES = 16 * 1024 * 1024
"""Bodies read at once; each has up to 4 MiB."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A body, unchanged, and why it was not understood.

    Attributes:
        id: Identifies it in lists and actions.
        app: The app whose token it came with.
        hook: `events` or `cohorts`.
        reason: A stable word.
        detail: A sentence for the operator.
        received_at: Epoch milliseconds.
        body: The bytes.
    """

    id: int
    app: str
    hook: str
    reason: str
    detail: str
    received_at: int
    body: bytes


class Quarantine:
    """Lists and removes quarantined bodies."""

    def __init__(self, database: Database, counters: AppCounters) -> None:
        self._database = database
        self._counters = counters

    async def page(self, selection: Selection, *, after: int, limit: int) -> list[Quarantined]:
        """Return quarantined bodies with an id above `after`, by id.

        At most `limit` of them, and fewer if they reach `PAGE_BYTES` together: see `is_full`.
        """
        parameters = selection.parameters(after, limit)
        return await self._fetch("quarantined", parameters)

    async def ids(self, selection: Selection, *, after: int) -> list[int]:
        """Return the next ids an action on `selection` affects."""
        parameters = selection.parameters(after)
        rows = await self._database.fetch(SQL["quarantined_ids"], parameters)
        return [row[0] for row in rows]

    async def named(self, ids: Sequence[int]) -> AsyncIterator[Quarantined]:
        """Yield those of `ids` that are still there, in order, with a few in memory at a time."""
        while ids:
            named = orjson.dumps(ids).decode()
            found = await self._fetch("quarantined_named", {"ids": named})
            for body in found:
                yield body
            ids = [one for one in ids if one > found[-1].id] if is_full(found) else []

    async def remove(self, ids: Collection[int]) -> int:
        """Remove bodies; return how many were there."""
        named = orjson.dumps(list(ids)).decode()
        return await self._database.execute(SQL["drop_quarantined"], {"ids": named})

    async def count(self, selection: Selection) -> int:
        """Return how many bodies an action on `selection` would affect."""
        return sum([len(ids) async for ids in self.walk(selection)])

    async def discard(self, selection: Selection) -> int:
        """Remove the selected bodies for good; return how many."""
        return sum([await self.remove(ids) async for ids in self.walk(selection)])

    async def walk(self, selection: Selection) -> AsyncIterator[list[int]]:
        """Yield the ids of the selected bodies, some at a time."""
        after = 0
        while ids := await self.ids(selection, after=after):
            yield ids
            after = ids[-1]

    async def _fetch(
        self, query: str, parameters: Mapping[str, int | str | None]
    ) -> list[Quarantined]:
        rows = await self._database.read(partial(_read_page, SQL[query], parameters))
        return [Quarantined(row[0], self._counters.name(row[1]), *row[2:]) for row in rows]


def is_full(page: Sequence[Quarantined]) -> bool:
    """Return whether a page ended because its bodies have `PAGE_BYTES` together."""
    return sum(len(body.body) for body in page) >= PAGE_BYTES


def _read_page(
    query: str, parameters: Mapping[str, int | str | None], raw: sqlite3.Connection
) -> list[Row]:
    rows: list[Row] = []
    size_bytes = 0
    for row in raw.execute(query, parameters):
        rows.append(row)
        size_bytes += len(row[-1])
        # Checked after adding, so that a page is never empty, however large its first body.
        if size_bytes >= PAGE_BYTES:
            break
    return rows
