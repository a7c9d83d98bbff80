"""The outbox's own time, of which the instants of tries are: it passes, and never leaps.

An event expires when it was first tried too long ago. A wall clock that is set, right or wrong,
says nothing about that. So leaps are taken out of it, and their sum is on disk: what was tried
in 1970, before a time server spoke, is a minute old when it has spoken, after a restart too.

Of the time in which relay did not run only the wall clock tells. If it is behind what is on disk,
nothing is known, and nothing grows older.
"""

import sqlite3

from relay.clock import CLOCK_STEP_S, Clock
from relay.database.database import Database
from relay.outbox.sql import SQL


class SteadyTime:
    """Turns wall time into the outbox's time and back."""

    def __init__(self, database: Database, clock: Clock, ahead_ms: int) -> None:
        self._database = database
        self._clock = clock
        self._ahead_ms = self._kept_ms = ahead_ms
        self._wall_ms = clock.now_ms()
        self._at_s = clock.elapsed_s()

    @classmethod
    async def load(cls, database: Database, clock: Clock) -> "SteadyTime":
        """Return the timeline that goes on where the tables end."""
        kept_ms, newest_at = await database.read(_read)
        ahead_ms = 0  # as nothing is of the old time
        if newest_at is not None:
            ahead_ms = min(kept_ms, clock.now_ms() - newest_at)
        if ahead_ms != kept_ms:
            await database.execute(SQL["note_clock"], {"ahead_ms": ahead_ms})
        return cls(database, clock, ahead_ms)

    def now_ms(self) -> int:
        """Return the present."""
        self._follow()
        return self._wall_ms - self._ahead_ms

    def place(self, wall_ms: int) -> int:
        """Return the instant that the wall clock showed just now."""
        self._follow()
        return wall_ms - self._ahead_ms

    def show(self, at: int | None) -> int | None:
        """Return what the wall clock would have shown at an instant, were it as it is now.

        Only reads, as the writer's thread asks it too.
        """
        return None if at is None else at + self._ahead_ms

    async def keep(self) -> float:
        """Write down how far the wall clock leapt since the last call; return the seconds.

        Raises:
            StoreFull: If there is no room; the next call writes it.
        """
        self._follow()
        ahead_ms = self._ahead_ms
        leapt_ms = ahead_ms - self._kept_ms
        if leapt_ms:
            await self._database.execute(SQL["note_clock"], {"ahead_ms": ahead_ms})
            self._kept_ms = ahead_ms
        return leapt_ms / 1000

    def _follow(self) -> None:
        """Take out a leap since the last look."""
        wall_ms, now_s = self._clock.now_ms(), self._clock.elapsed_s()
        leap_ms = wall_ms - self._wall_ms - round((now_s - self._at_s) * 1000)
        if abs(leap_ms) > CLOCK_STEP_S * 1000:
            self._ahead_ms += leap_ms
        self._wall_ms, self._at_s = wall_ms, now_s


def _read(raw: sqlite3.Connection) -> tuple[int, int | None]:
    ahead_ms, newest_at = raw.execute(SQL["clock"]).fetchone()
    return ahead_ms, newest_at
