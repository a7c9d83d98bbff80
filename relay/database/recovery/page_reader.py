"""Reads the rows of single pages with SQLite: each page is given to it as if it were a whole table.

SQLite gives up a table at its first damaged page. In a scratch file it sees one page at a time, so
damage costs the rows it hit. The rows' own format stays SQLite's business.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from relay.database.recovery.format import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    PAGE_BYTES,
    TABLE_LEAF,
    as_leaf,
    page_kind,
    with_any_page_count,
)
from relay.database.recovery.pages import FIRST_MAP, Pages, is_map_page
from relay.database.recovery.sql import SQL

Value: TypeAlias = int | float | str | bytes | None

ROW_KINDS: Final = {False: {TABLE_LEAF}, True: {INDEX_LEAF, INDEX_INTERIOR}}
"""Pages with rows in them, by `Layout.is_keyed`."""

_ROOT: Final = FIRST_MAP
"""Where the page to read is put: in the place of the pointer map, which SQLite does not use to
read."""

_LONGEST_ROW_BYTES: Final = 64 * 1024 * 1024
"""No row of relay's is longer; a damaged length must not make SQLite allocate what it says."""


class Layout(NamedTuple):
    """How a table's rows lie in its pages.

    Attributes:
        create: The statement that creates a table `page` of the same layout.
        is_keyed: Whether it has no rowids.
    """

    create: str
    is_keyed: bool


class PageReader:
    """Reads pages of a damaged database; made by `open_page_reader`."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self._uri = f"{path.absolute().as_uri()}?immutable=1"
        self._first_pages: dict[Layout, bytes] = {}

    def rows(self, layout: Layout, page: bytes) -> Iterator[tuple[Value, ...] | None]:
        """Yield the rows of a page, None for each that cannot be read.

        Raises:
            sqlite3.DatabaseError: If nothing of the page can be read.
        """
        if layout not in self._first_pages:
            self._first_pages[layout] = _first_page(layout)
        if page_kind(page) == INDEX_INTERIOR:
            page = as_leaf(page)  # the pages below it are read by themselves
        self._write(1, self._first_pages[layout])
        self._write(_ROOT, page)
        # A new connection for each page: SQLite caches an immutable file's pages for good.
        with closing(sqlite3.connect(self._uri, uri=True, isolation_level=None)) as raw:
            raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_ROW_BYTES)
            yield from _rows(raw)

    def _write(self, number: int, page: bytes) -> None:
        os.pwrite(self._file, page, (number - 1) * PAGE_BYTES)


def _rows(raw: sqlite3.Connection) -> Iterator[tuple[Value, ...] | None]:
    (count,) = raw.execute(SQL["count_page"]).fetchone()  # as the page's header has it
    try:
        rows = raw.execute(SQL["read_page"]).fetchall()
    except sqlite3.DatabaseError:
        # One statement for each row: after an error a cursor cannot go on.
        for number in range(count):
            try:
                yield raw.execute(SQL["read_page_row"], {"number": number}).fetchone()
            except sqlite3.DatabaseError:  # also a text that is not UTF-8
                yield None
    else:
        yield from rows


def _first_page(layout: Layout) -> bytes:
    """Return the first page of a file in which `_ROOT` is all of a table."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute(f"PRAGMA page_size={PAGE_BYTES}")
        raw.execute("PRAGMA auto_vacuum=NONE")  # so the first table begins on the second page
        raw.execute(layout.create)
        return with_any_page_count(raw.serialize()[:PAGE_BYTES])


@contextmanager
def open_page_reader(pages: Pages, path: Path) -> Iterator[PageReader]:
    """Open a reader of a database's pages.

    Args:
        pages: The database.
        path: Of a scratch file; removed at the end.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        # Long rows continue on overflow pages, which are found by their numbers. Only these are
        # copied, so the scratch file stays small however large the database is.
        os.ftruncate(file, max(pages.last_stored, _ROOT) * PAGE_BYTES)
        for number in range(1, pages.last_stored + 1):
            page = pages.read(number)
            if any(page) and not page_kind(page) and not is_map_page(number):
                os.pwrite(file, page, (number - 1) * PAGE_BYTES)
        yield PageReader(file, path)
    finally:
        os.close(file)
        path.unlink()
