"""Which events were accepted in the last 30 days: a 16-byte key for each.

Keys of recent events are in memory and, for recovery, in the rows of `events`; older ones are in
the table `seen` alone. A key is inserted into `seen` with thousands of others in sorted order
(`flush_to_disk`): a sorted run touches neighbouring pages of its day's part of the table, while
random single inserts would each write a page of their own.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import islice

import anyio.lowlevel
import orjson

from relay.database.database import Database
from relay.events.mapping import scope_of
from relay.outbox.sql import SQL

KEY_BYTES = 16
_SCOPED = b"scoped"

FLUSH_CHUNK = 2_000
FLUSH_RANGES = 16
"""Ranges of keys that are sorted and written one after the other: sorting all keys at once would
block the event loop."""

BYTE_VALUES = 256


def dedup_key(app: int, insert_id: str, scope: str | None = None) -> bytes:
    """Return the 16 bytes that identify an event of an app.

    An insert id within a scope never equals the same one in another scope or in none. The bytes
    must never change: keys of the last 30 days are on disk.
    """
    if scope is None:
        return blake2b(b"%d:%b" % (app, insert_id.encode()), digest_size=KEY_BYTES).digest()
    named = orjson.dumps([app, scope, insert_id])
    return blake2b(named, digest_size=KEY_BYTES, person=_SCOPED).digest()


def dedup_keys(app: int, event: Mapping[str, object]) -> tuple[bytes, bytes]:
    """Return the two keys an uploaded event may have: as OneSignal's, and as an SDK's.

    Raises:
        KeyError: If it has no insert id.
    """
    insert_id = str(event["insert_id"])
    device_id, user_id = (
        id_ if isinstance(id_, str) else None for id_ in map(event.get, ("device_id", "user_id"))
    )
    scope = scope_of(device_id, user_id)
    return dedup_key(app, insert_id), dedup_key(app, insert_id, scope)


class DedupIndex:
    """Keys accepted since the last flush.

    Attributes:
        days: The UTC day (since 1970) of each key.
        last_seq: The highest sequence number whose key is here or was flushed.
    """

    def __init__(self, days: Iterable[tuple[bytes, int]], last_seq: int) -> None:
        self.days = dict(days)
        self.last_seq = last_seq

    def __len__(self) -> int:
        return len(self.days)

    async def flush_to_disk(self, database: Database) -> int:
        """Move the keys in memory to disk, in many short transactions; return how many.

        Raises:
            StoreFull: If there is no room; the next call continues.
        """
        flushed, last_seq = 0, self.last_seq
        for (day, _), members in sorted((await self._parts()).items()):
            keys = iter(sorted(members))
            while chunk := list(islice(keys, FLUSH_CHUNK)):
                await database.write(partial(_flush_chunk, day, chunk))
                # Only now: a key must be in memory or on disk at every moment.
                for key in chunk:
                    del self.days[key]
                flushed += len(chunk)
        # The mark moves last, so a crash before it repeats the flush: inserting a key twice is
        # harmless, while a row pruned before its key is on disk would lose the key.
        await database.execute(SQL["mark_flushed"], {"seq": last_seq})
        return flushed

    async def _parts(self) -> dict[tuple[int, int], list[bytes]]:
        """Return the keys in memory by day and range, yielding to other tasks now and then."""
        parts: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
        for place, (key, day) in enumerate(list(self.days.items()), start=1):
            parts[day, key[0] * FLUSH_RANGES // BYTE_VALUES].append(key)
            if place % FLUSH_CHUNK == 0:
                await anyio.lowlevel.checkpoint()
        return parts


def _flush_chunk(day: int, keys: Sequence[bytes], raw: sqlite3.Connection) -> None:
    raw.execute(SQL["open_day"], {"day": day})
    raw.execute(SQL["flush"], {"day": day, "count": len(keys), "keys": b"".join(keys)})
