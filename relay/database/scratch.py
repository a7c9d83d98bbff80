"""A scratch database: sorts more rows than memory should hold, and is removed afterwards.

Nothing in it has to survive, so it has no journal and never syncs. What a crash leaves of it is
removed when the next one opens.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from relay.database.connection import CLOSE_S, Connection
from relay.database.disk import remove_database
from relay.database.errors import translate

CACHE_KIB = 8_192

Result = TypeVar("Result")


class Scratch:
    """An open scratch database."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` with the raw connection, on its thread.

        Raises:
            StoreFull: If there is no room.
            StoreFailed: If the disk failed.
        """
        try:
            return await self._connection.run(work)
        except sqlite3.Error as error:
            raise translate(error, self._folder) from error


@asynccontextmanager
async def open_scratch(path: Path, schema: str) -> AsyncIterator[Scratch]:
    """Create an empty database with a schema, and remove it at the end.

    Raises:
        StoreFull: If there is no room for it.
        StoreFailed: If the disk failed.
    """
    remove_database(path)
    connection = Connection(lambda: sqlite3.connect(path, isolation_level=None), iter_chunk_size=64)
    await connection
    try:
        scratch = Scratch(connection, path.parent)
        await scratch.run(partial(_prepare, schema))
        yield scratch
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await connection.close()
        remove_database(path)


def _prepare(schema: str, raw: sqlite3.Connection) -> None:
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    raw.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    raw.executescript(schema)
