"""Dead letters: events Amplitude will never accept, kept until an operator decides."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import orjson

from relay.database.database import Database
from relay.outbox.counters import AppCounters, Counts
from relay.outbox.selection import Selection, count_by_app
from relay.outbox.sql import SQL


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event, and why it became a dead letter.

    Attributes:
        id: Identifies it in lists and actions.
        app: Its app's name.
        insert_id: Its id for Amplitude.
        event_type: Amplitude's name of the event.
        reason: A stable word.
        detail: Amplitude's words, without any API key.
        attempts: Uploads it was part of.
        accepted_at: Epoch milliseconds, like all instants.
        first_tried_at: None if it was never uploaded.
        died_at: When it became a dead letter.
        body: The event as it was uploaded, JSON.
    """

    id: int
    app: str
    insert_id: str
    event_type: str
    reason: str
    detail: str
    attempts: int
    accepted_at: int
    first_tried_at: int | None
    died_at: int
    body: bytes


class DeadLetters:
    """Lists, retries and discards dead letters."""

    def __init__(self, database: Database, counters: AppCounters, seqs: "count[int]") -> None:
        self._database = database
        self._counters = counters
        self._seqs = seqs

    async def page(self, selection: Selection, *, after: int, limit: int) -> list[DeadLetter]:
        """Return up to `limit` dead letters with an id above `after`, by id."""
        parameters = selection.parameters(after, limit)
        rows = await self._database.fetch(SQL["dead_letters"], parameters)
        return [DeadLetter(row[0], self._counters.name(row[1]), *row[2:]) for row in rows]

    async def count(self, selection: Selection) -> int:
        """Return how many dead letters an action on `selection` would affect."""
        return await self._sweep(selection, None)

    async def retry(self, selection: Selection) -> int:
        """Make the selected dead letters pending again, untried; return how many."""

        def retry(raw: sqlite3.Connection, letters: Sequence[int]) -> None:
            # Last in order: younger events of the same device have been delivered since.
            retried = [(letter, next(self._seqs)) for letter in letters]
            raw.execute(SQL["retry_dead_letters"], {"retried": orjson.dumps(retried).decode()})
            _drop(raw, letters)

        return await self._sweep(selection, retry, retried=1)

    async def discard(self, selection: Selection) -> int:
        """Remove the selected dead letters for good; return how many."""
        return await self._sweep(selection, _drop, discarded=1)

    async def _sweep(
        self,
        selection: Selection,
        act: Callable[[sqlite3.Connection, Sequence[int]], None] | None,
        *,
        discarded: int = 0,
        retried: int = 0,
    ) -> int:
        """Walk the selected dead letters in short transactions; act on each if asked."""
        affected, after = 0, 0

        def step(raw: sqlite3.Connection) -> list[tuple[int, int]]:
            parameters = selection.parameters(after)
            rows: list[tuple[int, int]] = raw.execute(SQL["dead_letter_ids"], parameters).fetchall()
            if act and rows:
                act(raw, [letter for letter, _ in rows])
                for app, moved in count_by_app(rows):
                    Counts(dead=-moved, discarded=discarded * moved).add(raw, app)
            return rows

        def follow(rows: list[tuple[int, int]]) -> None:
            self._counters.pending += retried * len(rows)

        async def walk() -> list[tuple[int, int]]:
            if act is None:
                return await self._database.read(step)
            return await self._database.submit(step, on_commit=follow).wait()

        while rows := await walk():
            affected += len(rows)
            # Ids rise, so every letter is met once, also while others come and go.
            after = rows[-1][0]
        return affected


def _drop(raw: sqlite3.Connection, letters: Sequence[int]) -> None:
    raw.execute(SQL["drop_dead_letters"], {"ids": orjson.dumps(letters).decode()})
