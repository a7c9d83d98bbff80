"""Erases a user from the outbox: pending events, dead letters, quarantined bodies.

Pending events and dead letters become discarded, and are counted so. An event that a sender has
claimed may still reach Amplitude; here it is gone and counts as discarded.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial

import orjson

from relay.database.database import Database
from relay.events.texts import texts_in
from relay.outbox.claims import Claims
from relay.outbox.counters import AppCounters, Counts
from relay.outbox.dead_letters import DeadLetters
from relay.outbox.quarantine import Quarantine
from relay.outbox.selection import CHUNK, Selection
from relay.outbox.spans import decode_spans
from relay.outbox.sql import SQL

RANGE_EVENTS = 20_000
"""Events searched at a time."""

PAGE_BODIES = 50
"""Quarantined bodies searched at a time; each has up to 4 MiB."""


class OutboxErasure:
    """Removes everything of a user, by app number and External ID."""

    def __init__(
        self,
        database: Database,
        counters: AppCounters,
        claims: Claims,
        dead_letters: DeadLetters,
        quarantine: Quarantine,
    ) -> None:
        self._database = database
        self._counters = counters
        self._claims = claims
        self._dead_letters = dead_letters
        self._quarantine = quarantine

    async def remove(self, app: int, external_id: str) -> int:
        """Remove everything of a user; return the number of rows removed.

        Raises:
            StoreError: If the disk fails or is full; what is left goes with the next call.
        """
        person = {
            "app": app,
            "external_id": external_id,
            "needle": orjson.dumps(external_id),
        }
        await self._database.flush()  # appends on their way are then among the rows
        # Dead letters go first: a retry meanwhile would make pending events of them.
        removed = await self._discard_dead_letters(person)
        self._claims.has_gaps = True
        removed += await self._remove_events(app, person)
        removed += await self._discard_dead_letters(person)  # those that died since the first look
        return removed + await self._remove_bodies(app, external_id)

    async def _discard_dead_letters(self, person: dict[str, object]) -> int:
        discarded = 0
        for ids in _chunks(await self._find("dead_letters_of", person)):
            discarded += await self._dead_letters.discard(Selection(tuple(ids)))
        return discarded

    async def _find(self, query: str, parameters: dict[str, object]) -> list[int]:
        return [number for (number,) in await self._database.fetch(SQL[query], parameters)]

    async def _remove_bodies(self, app: int, external_id: str) -> int:
        removed, after = 0, 0
        while page := await self._quarantine.page(
            Selection(app=app), after=after, limit=PAGE_BODIES
        ):
            after = page[-1].id
            ids = [body.id for body in page if mentions(body.body, external_id)]
            removed += await self._quarantine.remove(ids) if ids else 0
        return removed

    async def _remove_events(self, app: int, person: dict[str, object]) -> int:
        """Search the events range by range, so that other reads get in between."""
        ((first, last),) = await self._database.fetch(SQL["span_of_events"], {})
        removed = 0
        for after in range(first - 1, last, RANGE_EVENTS):
            span = {"after": after, "upto": after + RANGE_EVENTS}
            for seqs in _chunks(await self._find("events_of", {**person, **span})):
                change = partial(_remove_events, app, seqs)
                await self._database.submit(change, on_commit=self._counters.settled).wait()
                removed += len(seqs)
        return removed


def _remove_events(app: int, seqs: Sequence[int], raw: sqlite3.Connection) -> int:
    """Remove events; return how many of them were pending, which count as discarded."""
    # Delivered rows are still there until they are pruned; they are counted as delivered already.
    receipts = raw.execute(SQL["receipts"]).fetchall()
    delivered = {seq for (spans,) in receipts for seq in decode_spans(spans)}
    pending = [seq for seq in seqs if seq not in delivered]
    named = orjson.dumps(pending).decode()
    discarded = raw.execute(SQL["drop_named"], {"seqs": named}).rowcount
    raw.execute(SQL["drop_named_tries"], {"seqs": named})
    rest = orjson.dumps([seq for seq in seqs if seq in delivered]).decode()
    raw.execute(SQL["drop_named"], {"seqs": rest})
    Counts(discarded=discarded).add(raw, app)
    return discarded


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), CHUNK):
        yield numbers[start : start + CHUNK]


def mentions(body: bytes, external_id: str) -> bool:
    """Return whether a body that is not understood holds an id, as a text or as a number.

    JSON has many spellings of one text, so a body that is JSON is parsed; in one that is not, only
    the usual two are searched for.
    """
    usual = (orjson.dumps(external_id), json.dumps(external_id).encode())
    # This decides nearly every body, without parsing up to 4 MiB.
    if any(spelling in body for spelling in usual):
        return True
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return external_id in texts_in(document)
