"""The disk: real SQLite in memory that outlives every process, with seeded faults.

Committed changes survive the end of a process, others do not; a completed commit
may still be unknown to the process when it ends.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from relay.database.migrations import migrate
from relay.outbox.sql import MIGRATIONS
from tests.simulation.journal import Journal
from tests.simulation.scenario import Scenario

Result = TypeVar("Result")

STALL_RATE = 0.1
FAILURE_RATE = 0.3
SYNC_FAILURE_RATE = 0.1
READ_FAILURE_RATE = 0.05
ROOM_MADE = 3
"""Transactions that find space after relay released some of its ballast."""


class _Raw(sqlite3.Connection):
    """SQLite whose statements can be made to fail."""

    before: Callable[[str], None]
    after: Callable[[str], None]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401  # sqlite3's own
        self.before(sql)
        cursor = super().execute(sql, parameters)
        self.after(sql)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        self.before(sql)
        return super().executemany(sql, parameters)

    def silently(self, sql: str) -> None:
        """Run a statement that cannot fail."""
        super().execute(sql)


def _failure(code: int, words: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return error


class Disk:
    """A database, and the faults of the disk it is on.

    Attributes:
        on_commit: Called after every transaction that changed something, in the same step.
    """

    def __init__(
        self, scenario: Scenario, journal: Journal, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._rng = scenario.rng("disk")
        self._fault_periods = scenario.fault_periods("disk", scenario.disk)
        self._process_no = 0
        self._statements = 0
        self._doom: str | None = None
        self._doomed_at = 0
        self._room = 0
        self.on_commit: Callable[[], None] = lambda: None
        self.raw = sqlite3.connect(
            ":memory:", isolation_level=None, factory=_Raw, cached_statements=256
        )
        self.raw.before = lambda _: None
        self.raw.after = lambda _: None
        migrate(self.raw, MIGRATIONS)
        self.raw.before = self._before
        self.raw.after = self._after

    def close(self) -> None:
        """Discard everything."""
        self.raw.close()

    def connect(self, name: str) -> "Access":
        """Return a connection for the current process."""
        return Access(self, name, self._loop)

    def cut(self) -> None:
        """End the current process: nothing it does reaches the disk any more."""
        self._process_no += 1

    def make_room(self) -> None:
        """Free some space, as relay's ballast does."""
        self._journal.note("room")
        self._room = ROOM_MADE

    @property
    def process_no(self) -> int:
        """Number of the current process."""
        return self._process_no

    def run(self, work: Callable[[sqlite3.Connection], Result], name: str) -> Result:
        """Run a function over the database for a live process."""
        self._journal.note(name)
        if name == "read" and self._is("read") and self._rng.random() < READ_FAILURE_RATE:
            raise _failure(sqlite3.SQLITE_IOERR, "disk I/O error")
        return work(self.raw)

    def delay_s(self) -> float:
        """Return how long the next half of an operation takes."""
        if self._is("stall") and self._rng.random() < STALL_RATE:
            return self._rng.uniform(0.5, 6.0)
        return self._rng.uniform(0.0001, 0.004)

    def _is(self, kind: str) -> bool:
        if not self._fault_periods:
            return False
        now_s = self._loop.time()
        return any(s.kind == kind and s.begins_s <= now_s < s.ends_s for s in self._fault_periods)

    # Statements.

    def _before(self, sql: str) -> None:
        if sql == "BEGIN IMMEDIATE":
            self._begin()
        elif sql == "COMMIT":
            self._commit()
        elif sql != "ROLLBACK" and self.raw.in_transaction:
            self._statements += 1
            if self._doom == "full" and self._statements == self._doomed_at:
                self._fail_full()

    def _begin(self) -> None:
        self._statements, self._doom = 0, None
        if self._is("locked") and self._rng.random() < FAILURE_RATE:
            self._journal.note("locked")
            raise _failure(sqlite3.SQLITE_BUSY, "database is locked")
        if self._is("sync") and self._rng.random() < SYNC_FAILURE_RATE:
            self._doom = "sync"
        elif self._room:
            self._room -= 1
        elif self._is("full") and self._rng.random() < FAILURE_RATE:
            self._doom, self._doomed_at = "full", self._rng.randint(1, 6)

    def _commit(self) -> None:
        if not self._statements or self._doom is None:
            return
        if self._doom == "full":
            self._fail_full()
        is_kept = self._rng.random() < 0.5  # a failed sync says nothing about what is on disk
        self._journal.note("sync failed", is_kept)
        self.raw.silently("COMMIT" if is_kept else "ROLLBACK")
        raise _failure(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error")

    def _fail_full(self) -> None:
        self._journal.note("full")
        self._doom = None
        if self._rng.random() < 0.5:  # SQLite itself may have rolled back, or not
            self.raw.silently("ROLLBACK")
        raise _failure(sqlite3.SQLITE_FULL, "database or disk is full")

    def _after(self, sql: str) -> None:
        if sql == "COMMIT" and self._statements:
            self._journal.note("commit", self._statements)
            self.on_commit()


class Access:
    """A connection as the engine sees it: one operation at a time, each taking time."""

    def __init__(self, disk: Disk, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._disk = disk
        self._name = name
        self._loop = loop
        self._process_no = disk.process_no
        self._free_s = 0.0

    @property
    def total_changes(self) -> int:
        """Rows ever changed."""
        return self._disk.raw.total_changes

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` in its turn; cancelling the caller does not stop it, a kill does."""
        done: asyncio.Future[Result] = self._loop.create_future()
        begins_s = max(self._loop.time(), self._free_s) + self._disk.delay_s()
        self._free_s = begins_s + self._disk.delay_s()
        self._loop.call_at(begins_s, self._work, work, done, self._free_s)
        return await done

    def _work(
        self,
        work: Callable[[sqlite3.Connection], Result],
        done: "asyncio.Future[Result]",
        ends_s: float,
    ) -> None:
        if self._process_no != self._disk.process_no:
            return
        try:
            answer = partial(_succeed, done, self._disk.run(work, self._name))
        except Exception as error:  # noqa: BLE001  # raised where it is awaited
            answer = partial(_fail, done, error)
        if self._process_no == self._disk.process_no:  # it may have ended just now
            self._loop.call_at(ends_s, answer)


def _succeed(done: "asyncio.Future[Result]", result: Result) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[Result]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
