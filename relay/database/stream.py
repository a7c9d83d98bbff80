"""Query results of any length: read in blocks, on a connection of their own."""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from anyio import CapacityLimiter, move_on_after

from relay.database.connection import Connection, open_connection
from relay.database.database import Row
from relay.database.errors import translate
from relay.errors import StoreFull

STREAMS: Final = 4
"""Open streams per file; each holds a connection and keeps the log from being written back."""

BLOCK_ROWS: Final = 1_000

PLACE_TIMEOUT_S: Final = 5.0
"""How long a stream waits for another one to end; a proxy would cut a longer silence."""


class RowStreams:
    """Streams rows out of one database file, a few streams at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places = CapacityLimiter(STREAMS)

    @asynccontextmanager
    async def open(
        self, sql: str, parameters: Mapping[str, object], *, timeout_s: float = PLACE_TIMEOUT_S
    ) -> AsyncIterator[AsyncIterator[list[Row]]]:
        """Yield all rows of a query in blocks; commits made meanwhile are not seen.

        Args:
            sql: The query.
            parameters: Its parameters.
            timeout_s: How long to wait for a place among the streams.

        Raises:
            StoreFull: If no place came free in time.
            StoreFailed: If the file cannot be read.
        """
        async with AsyncExitStack() as stack:
            with move_on_after(timeout_s) as waiting:
                await stack.enter_async_context(self._places)
            if waiting.cancelled_caught:
                raise StoreFull(f"{STREAMS} lists are being read; try again when one is done")
            try:
                # One statement on one connection is one snapshot, however slowly it is read; the
                # shared reader would be blocked by it.
                opened = open_connection(self._path, writable=False)
                connection = await stack.enter_async_context(opened)
            except sqlite3.Error as error:
                raise translate(error) from error
            yield _blocks(connection, sql, parameters)


async def _blocks(
    connection: Connection, sql: str, parameters: Mapping[str, object]
) -> AsyncIterator[list[Row]]:
    try:
        cursor = await connection.run(lambda raw: raw.execute(sql, parameters))
        while block := await connection.run(lambda _: list(islice(cursor, BLOCK_ROWS))):
            yield block
    except sqlite3.Error as error:
        raise translate(error) from error
