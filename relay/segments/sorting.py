"""Sorts the rows of a file on disk, so that each piece touches neighbouring pages of the tables."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import orjson

from relay.database.queries import load_queries
from relay.database.scratch import Scratch, open_scratch

_SQL = load_queries(files("relay.segments").joinpath("sorting.sql"))

PREFIX = "sorting-"


class Piece(NamedTuple):
    """A range of the sorted rows.

    Attributes:
        rows: A JSON array.
        after: The last user of the piece before, empty for the first.
        upto: The last user of this one, None for the last piece.
    """

    rows: str
    after: str
    upto: str | None


class SortedIds:
    """Distinct ids in order."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    async def add(self, ids: Sequence[str]) -> None:
        """Add ids, in any order, repeated or not."""
        taken = {"ids": orjson.dumps(ids).decode()}
        await self._scratch.run(lambda raw: raw.execute(_SQL["take_ids"], taken).rowcount)

    async def sort(self) -> int:
        """Sort what was added; return how many ids there are."""
        return await self._scratch.run(lambda raw: raw.execute(_SQL["sort_ids"]).rowcount)

    async def pieces(self, limit: int) -> AsyncIterator[Piece]:
        """Yield the ids in pieces of `limit`; at least one piece."""
        after: str | None = ""
        while after is not None:
            piece = await self._scratch.run(partial(_ids_after, after, limit))
            yield piece
            after = piece.upto


class SortedRows:
    """Subscriptions in the order of their users; all of one user in one piece."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    async def add(self, rows: Sequence[tuple[str, str, str, int]]) -> None:
        """Add `(external_id, id, type, is_subscribed)`, in any order."""
        taken = {"rows": orjson.dumps(rows).decode()}
        await self._scratch.run(lambda raw: raw.execute(_SQL["take_rows"], taken).rowcount)

    async def sort(self) -> int:
        """Sort what was added; return how many users there are."""

        def work(raw: sqlite3.Connection) -> int:
            raw.execute(_SQL["sort_rows"])
            return int(raw.execute(_SQL["count_users_of_rows"]).fetchone()[0])

        return await self._scratch.run(work)

    async def pieces(self, limit: int) -> AsyncIterator[Piece]:
        """Yield the rows in pieces of about `limit`; at least one piece."""
        after: str | None = ""
        while after is not None:
            piece = await self._scratch.run(partial(_rows_after, after, limit))
            yield piece
            after = piece.upto


def sorting_path(folder: Path, name: str) -> Path:
    """Return the path of the throw-away database of that name."""
    return folder / f"{PREFIX}{name}.db"


def remove_leftovers(folder: Path) -> None:
    """Remove the files that a killed process was sorting in: they hold ids of users."""
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink(missing_ok=True)


@asynccontextmanager
async def open_sorting(path: Path) -> AsyncIterator[Scratch]:
    """Open the throw-away database in which rows are sorted.

    Raises:
        StoreFull: If there is no room for it.
    """
    async with open_scratch(path, _SQL["schema"]) as scratch:
        yield scratch


def _ids_after(after: str, limit: int, raw: sqlite3.Connection) -> Piece:
    step = {"after": after, "limit": limit}
    ids, last, number = raw.execute(_SQL["piece_of_ids"], step).fetchone()
    return Piece(ids, after, last if number == limit else None)


def _rows_after(after: str, limit: int, raw: sqlite3.Connection) -> Piece:
    row = raw.execute(_SQL["end_of_piece"], {"after": after, "limit": limit}).fetchone()
    upto = row[0] if row else None
    step = {"after": after, "upto": upto}
    (rows,) = raw.execute(_SQL["piece_of_rows"], step).fetchone()
    return Piece(rows, after, upto)
