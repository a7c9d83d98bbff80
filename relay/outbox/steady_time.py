"""The time by which events age: it passes and never steps.

An event expires when its first upload was too long ago. A wall clock that is set, right or wrong,
does not change that. So steps are taken out of the wall time, and their sum is on disk: an event
tried in 1970, before a time server answered, is a minute old after the correction, even across a
restart.

While relay does not run, only the wall clock measures time. If it is behind what is on disk, the
length of the pause is unknown, and nothing ages by it.
"""

import sqlite3

from relay.clock import Clock, SteadyClock
from relay.database.database import Database
from relay.outbox.sql import SQL


class SteadyTime:
    """Converts between wall time and steady time, both in epoch milliseconds."""

    def __init__(self, database: Database, clock: Clock, ahead_ms: int) -> None:
        self._database = database
        self._clock = SteadyClock(clock)
        self._ahead_at_start_ms = self._saved_ms = ahead_ms

    @classmethod
    async def load(cls, database: Database, clock: Clock) -> "SteadyTime":
        """Return the steady time, going on where the tables end."""
        saved_ms, newest_at = await database.read(_read)
        # Without an instant in the tables, no steady time is left to stay compatible with.
        ahead_ms = 0 if newest_at is None else min(saved_ms, clock.now_ms() - newest_at)
        if ahead_ms != saved_ms:
            await database.execute(SQL["note_clock"], {"ahead_ms": ahead_ms})
        return cls(database, clock, ahead_ms)

    @property
    def _ahead_ms(self) -> int:
        return self._ahead_at_start_ms + self._clock.stepped_ms

    def now_ms(self) -> int:
        """Return the present."""
        wall_ms = self._clock.wall_ms()
        return wall_ms - self._ahead_ms

    def from_wall(self, wall_ms: int) -> int:
        """Return the steady time of an instant that the wall clock showed just now."""
        self._clock.wall_ms()
        return wall_ms - self._ahead_ms

    def to_wall(self, at: int | None) -> int | None:
        """Return what the present wall clock would have shown at a steady instant.

        It only reads, because the writer's thread calls it too.
        """
        return None if at is None else at + self._ahead_ms

    async def save(self) -> float:
        """Write down new steps; return how many seconds the wall clock stepped since the last call.

        Raises:
            StoreFull: If there is no room; the next call tries again.
        """
        self._clock.wall_ms()
        ahead_ms = self._ahead_ms
        step_ms = ahead_ms - self._saved_ms
        if step_ms:
            await self._database.execute(SQL["note_clock"], {"ahead_ms": ahead_ms})
            self._saved_ms = ahead_ms
        return step_ms / 1000


def _read(raw: sqlite3.Connection) -> tuple[int, int | None]:
    ahead_ms, newest_at = raw.execute(SQL["clock"]).fetchone()
    return ahead_ms, newest_at
