"""What the outbox forgets, and when: always in bulk, always in short transactions.

Keys move from memory into `seen` in sorted runs (`fold`): a run touches neighbouring pages
of the day's part of the table, where single inserts would each touch a page of their own.
Rows of delivered events go once their keys are folded (`prune`). Old days of keys and old
messages expire whole.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import islice

import anyio.lowlevel

from relay.database.database import Database
from relay.database.disk import vacuum
from relay.outbox.batch import DedupIndex
from relay.outbox.sql import SQL
from relay.outbox.steady_time import SteadyTime

SEEN_DAYS = 31
"""Days a key is remembered: 30 whole ones after the day of acceptance."""

MESSAGE_DAYS = 90

FOLD_CHUNK = 2_000
FOLD_RANGES = 16
"""Ranges of keys that are sorted and written one after the other: sorting all at once would
hold everybody up."""

BYTE_VALUES = 256

PRUNE_CHUNK = 125
EXPIRE_CHUNK = 2_000


class Retention:
    """Keeps the outbox from growing without bound."""

    def __init__(self, database: Database, keys: DedupIndex, timeline: SteadyTime) -> None:
        self._database = database
        self._keys = keys
        self._timeline = timeline

    @property
    def unfolded(self) -> int:
        """Keys in memory that wait for the next fold."""
        return len(self._keys)

    async def fold(self) -> int:
        """Move the keys in memory to disk; return how many.

        A crash in between repeats the fold: the mark moves last, and writing a key twice
        does no harm. A key leaves memory once the disk has it.
        """
        folded, last_seq = 0, self._keys.last_seq
        for (day, _), members in sorted((await self._parts()).items()):
            keys = iter(sorted(members))
            while chunk := list(islice(keys, FOLD_CHUNK)):
                await self._database.write(partial(_fold_chunk, day, chunk))
                for key in chunk:
                    del self._keys.days[key]
                folded += len(chunk)
        await self._database.execute(SQL["mark_folded"], {"seq": last_seq})
        return folded

    async def _parts(self) -> dict[tuple[int, int], list[bytes]]:
        """Return the keys in memory by day and range, some at a time for the loop's sake."""
        parts: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
        for place, (key, day) in enumerate(list(self._keys.days.items()), start=1):
            parts[day, key[0] * FOLD_RANGES // BYTE_VALUES].append(key)
            if place % FOLD_CHUNK == 0:
                await anyio.lowlevel.checkpoint()
        return parts

    async def prune(self) -> bool:
        """Remove rows of some delivered events; False when nothing is left to remove."""
        return await self._database.write(_prune)

    async def expire(self, today: int) -> bool:
        """Forget some of what is past its days; False when nothing is left to forget.

        Args:
            today: UTC days since 1970.
        """
        return await self._database.write(partial(_expire, today))

    async def note_clock(self) -> float:
        """Write down how far the wall clock leapt since the last call; return the seconds."""
        return await self._timeline.keep()

    async def vacuum(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system."""
        await self._database.write(lambda raw: vacuum(raw, pages))


def _fold_chunk(day: int, keys: Sequence[bytes], raw: sqlite3.Connection) -> None:
    raw.execute(SQL["open_day"], {"day": day})
    raw.execute(SQL["fold"], {"day": day, "count": len(keys), "keys": b"".join(keys)})


def _prune(raw: sqlite3.Connection) -> bool:
    receipt = raw.execute(SQL["prunable"]).fetchone()
    if receipt is None:
        return False
    number, spans = receipt
    dropped = raw.execute(SQL["drop_events"], {"spans": spans, "limit": PRUNE_CHUNK}).rowcount
    if dropped < PRUNE_CHUNK:
        raw.execute(SQL["drop_tries"], {"spans": spans})
        raw.execute(SQL["drop_receipt"], {"id": number})
    return True


def _expire(today: int, raw: sqlite3.Connection) -> bool:
    stale = {"day": today - MESSAGE_DAYS, "limit": EXPIRE_CHUNK}
    forgotten = raw.execute(SQL["forget_messages"], stale).rowcount
    (oldest,) = raw.execute(SQL["oldest_seen_day"]).fetchone()
    if oldest is not None and oldest < today - SEEN_DAYS:
        raw.execute(SQL["forget_seen"], {"day": oldest, "count": EXPIRE_CHUNK})
        raw.execute(SQL["close_day"], {"day": oldest})
        return True
    return forgotten > 0
