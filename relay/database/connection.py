"""One SQLite connection on a thread of its own, opened the way relay needs it.

A transaction is a plain function over `sqlite3.Connection`, run as a whole on that thread: it
contains no `await`, so nothing can interleave with it and no cancellation can cut it in half. The
pragmas are asserted, because SQLite ignores what it does not understand.

Of aiosqlite only the thread is used, through two private names (`_execute` and `_conn`). Its
coroutine for each statement would let other tasks run between the statements of a transaction.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiosqlite
import anyio

Result = TypeVar("Result")

BUSY_TIMEOUT_MS = 5_000
"""How long a connection waits for another process: a command, a backup."""

STATEMENT_CACHE = 256
"""More than all named queries; Python's default of 128 would prepare some again and again."""

CLOSE_S = 30.0
"""Bounds the shielded close: the last connection to close writes the whole log back, and without
a close the thread would outlive the event loop."""


class Connection(aiosqlite.Connection):
    """Runs whole functions on the thread of an aiosqlite connection."""

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` on this connection's thread; cancelling the caller does not stop it."""
        result: Result = await self._execute(  # type: ignore[no-untyped-call]  # aiosqlite has no types here
            work, self._conn
        )
        return result


@asynccontextmanager
async def open_connection(path: Path, *, writable: bool) -> AsyncIterator[Connection]:
    """Open `path`, set and assert the pragmas, and close at the end.

    Args:
        path: The database file; created when missing and `writable`.
        writable: False gives a connection that refuses every write, including
            checkpoints. Only one connection of a file may be writable: with two, the
            log-reset defect of SQLite before 3.51.3 can lose a commit.
            Source: sqlite.org/wal.html, section on the WAL-reset bug.

    Raises:
        sqlite3.Error: If the file cannot be opened or is no database.
    """

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, cached_statements=STATEMENT_CACHE)

    connection = Connection(connect, iter_chunk_size=64)
    await connection
    try:
        await connection.run(_prepare_writer if writable else _prepare_reader)
        yield connection
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await connection.close()


def _prepare_writer(raw: sqlite3.Connection) -> None:
    """Make commits durable, and free space reclaimable."""
    raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    raw.execute("PRAGMA auto_vacuum=INCREMENTAL")  # has effect only before the first table
    _expect(raw, "journal_mode", "wal", set_to="WAL")
    _expect(raw, "synchronous", 2, set_to="FULL")
    _expect(raw, "foreign_keys", 1, set_to="ON")
    _expect(raw, "wal_autocheckpoint", 0, set_to="0")  # `Database` does it, and sees it fail
    raw.execute("PRAGMA secure_delete=FAST")  # Debian's default rewrites every page it frees
    raw.execute("PRAGMA temp_store=MEMORY")
    raw.execute("PRAGMA cache_size=-16384")


def _prepare_reader(raw: sqlite3.Connection) -> None:
    """Make writing impossible."""
    raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _expect(raw, "query_only", 1, set_to="ON")
    raw.execute("PRAGMA cache_size=-4096")


def _expect(raw: sqlite3.Connection, pragma: str, value: object, *, set_to: str) -> None:
    """Set a pragma and verify that SQLite took it.

    Raises:
        sqlite3.NotSupportedError: If it did not (a file system without shared memory,
            for example, cannot hold a write-ahead log).
    """
    raw.execute(f"PRAGMA {pragma}={set_to}")
    got = raw.execute(f"PRAGMA {pragma}").fetchone()[0]
    if got != value:
        raise sqlite3.NotSupportedError(f"PRAGMA {pragma} is {got!r} and cannot be {value!r} here")
