"""Quarantine: bodies that could not be understood, raw, until a person decides."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass

import orjson

from relay.database.database import Database
from relay.outbox.ledger import Ledger
from relay.outbox.selection import Selection
from relay.outbox.sql import SQL


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A body as it came, with the reason it was not understood.

    Attributes:
        id: Names it in lists and actions.
        app: The app whose token it came with.
        hook: `events` or `cohorts`.
        reason: A stable word.
        detail: A sentence for a person.
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

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger

    async def page(self, selection: Selection, *, after: int, limit: int) -> list[Quarantined]:
        """Return up to `limit` quarantined bodies with an id above `after`, by id."""
        parameters = selection.parameters(after, limit)
        return await self._fetch("quarantined", parameters)

    async def ids(self, selection: Selection, *, after: int) -> list[int]:
        """Return the next ids an action on `selection` concerns."""
        parameters = selection.parameters(after)
        rows = await self._database.fetch(SQL["quarantined_ids"], parameters)
        return [row[0] for row in rows]

    async def named(self, ids: Collection[int]) -> list[Quarantined]:
        """Return those of `ids` that are still there."""
        return await self._fetch("quarantined_named", {"ids": orjson.dumps(list(ids)).decode()})

    async def remove(self, ids: Collection[int]) -> int:
        """Remove bodies; return how many were there."""
        named = orjson.dumps(list(ids)).decode()
        return await self._database.execute(SQL["drop_quarantined"], {"ids": named})

    async def count(self, selection: Selection) -> int:
        """Return how many bodies an action on `selection` would concern."""
        return sum([len(ids) async for ids in self.walk(selection)])

    async def discard(self, selection: Selection) -> int:
        """Throw the selected bodies away; return how many."""
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
        rows = await self._database.fetch(SQL[query], parameters)
        return [Quarantined(row[0], self._ledger.name(row[1]), *row[2:]) for row in rows]
