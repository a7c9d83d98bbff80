"""What the outbox removes, and when: always in bulk, always in short transactions.

A step is small and shares its sync with other writes, so accepting events never waits long for it.
"""

import sqlite3
from dataclasses import dataclass
from functools import partial

import structlog

from relay.clock import DAY_MS, Clock
from relay.database.database import Database
from relay.database.disk import vacuum
from relay.outbox.dedup import DedupIndex
from relay.outbox.sql import SQL
from relay.outbox.steady_time import SteadyTime

log = structlog.get_logger(__name__)

SEEN_DAYS = 31
"""Days a dedup key is remembered: 30 whole ones after the day of acceptance."""

MESSAGE_DAYS = 90

PRUNE_CHUNK = 125
EXPIRE_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When the dedup keys in memory go to disk.

    Attributes:
        keys: At this number; more make a flush cheaper per key, fewer keep memory small and
            release delivered rows sooner.
        after_s: Longest time any key waits.
    """

    keys: int = 20_000
    after_s: float = 60.0


class Retention:
    """Keeps the outbox from growing without bound.

    Attributes:
        flush_policy: When dedup keys go to disk; it may be replaced at any time.
    """

    def __init__(
        self, database: Database, dedup: DedupIndex, steady_time: SteadyTime, clock: Clock
    ) -> None:
        self._database = database
        self._dedup = dedup
        self._steady_time = steady_time
        self._clock = clock
        self._flushed_at_s = float("-inf")  # a daemon that restarts often must flush too
        self.flush_policy = FlushPolicy()

    @property
    def unflushed(self) -> int:
        """Dedup keys in memory that wait for the next flush."""
        return len(self._dedup)

    async def step(self, now_ms: int) -> bool:
        """Do a piece of what is due; False when nothing was left.

        Args:
            now_ms: The wall time if it is trusted, else 0, by which nothing expires.

        Raises:
            StoreFull: If there is no room; the next step tries again.
        """
        # First of all: the rows of delivered events can go only once their keys are flushed.
        if self._is_flush_due():
            await self.flush()
            self._flushed_at_s = self._clock.monotonic_s()
        if await self.prune():
            return True
        if stepped_s := await self._steady_time.save():
            log.warning("clock.leapt", seconds=round(stepped_s))
        return await self.expire(now_ms // DAY_MS)

    def _is_flush_due(self) -> bool:
        waited_s = self._clock.monotonic_s() - self._flushed_at_s
        return self.unflushed >= self.flush_policy.keys or (
            self.unflushed > 0 and waited_s >= self.flush_policy.after_s
        )

    async def flush(self) -> int:
        """Move the dedup keys in memory to disk; return how many."""
        return await self._dedup.flush_to_disk(self._database)

    async def prune(self) -> bool:
        """Remove rows of some delivered events; False when nothing is left to remove.

        A row stays until its key is flushed, as a crash would otherwise lose the key.
        """
        return await self._database.write(_prune)

    async def expire(self, today: int) -> bool:
        """Remove some old dedup keys and messages; False when nothing is left to remove.

        Args:
            today: UTC days since 1970.
        """
        return await self._database.write(partial(_expire, today))

    async def vacuum(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system."""
        await self._database.write(lambda raw: vacuum(raw, pages))


def _prune(raw: sqlite3.Connection) -> bool:
    receipt = raw.execute(SQL["prunable"]).fetchone()
    if receipt is None:
        return False
    number, spans = receipt
    dropped = raw.execute(SQL["drop_events"], {"spans": spans, "limit": PRUNE_CHUNK}).rowcount
    # The receipt goes with the last of its rows: until then it tells that they are delivered.
    if dropped < PRUNE_CHUNK:
        raw.execute(SQL["drop_tries"], {"spans": spans})
        raw.execute(SQL["drop_receipt"], {"id": number})
    return True


def _expire(today: int, raw: sqlite3.Connection) -> bool:
    stale = {"day": today - MESSAGE_DAYS, "limit": EXPIRE_CHUNK}
    forgotten = raw.execute(SQL["forget_messages"], stale).rowcount
    # Whole days, oldest first: `append` looks keys up day by day, so empty days must go.
    (oldest,) = raw.execute(SQL["oldest_seen_day"]).fetchone()
    if oldest is not None and oldest < today - SEEN_DAYS:
        raw.execute(SQL["forget_seen"], {"day": oldest, "count": EXPIRE_CHUNK})
        raw.execute(SQL["close_day"], {"day": oldest})
        return True
    return forgotten > 0
