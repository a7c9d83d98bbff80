"""The pages of a database file and its log as they were last committed, read without SQLite.

A page is led back to its table by the pointer map, in which every page of an auto-vacuuming file
names the page above it, and where that is damaged, by walking down from the table's root. So one
damaged page costs the rows on it, and not all that stands below.

Source: sqlite.org/fileformat2.html, sections 1.3 (the header), 1.6 and 1.8 (pointer map).
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from relay.database.recovery.records import (
    INDEX_INTERIOR,
    PAGE_BYTES,
    TABLE_INTERIOR,
    page_kind,
    read_children,
)
from relay.database.recovery.wal import Log, read_log

MAGIC: Final = b"SQLite format 3\0"
SCHEMA_START: Final = 100
"""Where the schema's tree begins on the first page, behind the file's header."""

_NUMBER: Final = Struct(">I")
_COUNT_PLACE: Final = 28
_VERSION_PLACE: Final = 60
_ENTRY: Final = Struct(">BI")
_MAP_SPAN: Final = PAGE_BYTES // _ENTRY.size + 1
_FIRST_MAP: Final = 2
_LOCK_PAGE: Final = 0x40000000 // PAGE_BYTES + 1
"""SQLite's locks are in this page; it is never used."""

_DEEPEST: Final = 40

_MOST_MISSING: Final = 1_000_000
"""A larger number in a damaged header is none."""


class Use(IntEnum):
    """What the pointer map says a page is for."""

    UNKNOWN = 0
    ROOT = 1
    FREE = 2
    FIRST_OVERFLOW = 3
    OVERFLOW = 4
    CHILD = 5


class Entry(NamedTuple):
    """What the pointer map says of a page: its use, and the page above it."""

    use: Use
    above: int


class Pages:
    """The pages of a database; some may be missing or damaged.

    Attributes:
        log: What its write-ahead log holds.
        count: How many there are, or should be.
        in_file: How many of them the file has.
    """

    def __init__(self, file: int | None, log_file: int | None, log: Log) -> None:
        self._file = file
        self._log_file = log_file
        self.log = log
        size_bytes = os.fstat(file).st_size if file is not None else 0
        self.in_file = -(-size_bytes // PAGE_BYTES)
        self.count = log.pages or max(self.in_file, max(log.places, default=0))
        self.count = max(self.count, self._said()) if self.count else 0

    @property
    def is_database(self) -> bool:
        """Whether it begins as every SQLite database does."""
        return self.read(1).startswith(MAGIC)

    def _said(self) -> int:
        """Return how many pages there should be, as far as that can be believed."""
        page = self.read(1)
        if self.log.pages or not self.is_database or len(page) < SCHEMA_START:
            return self.log.pages
        said: int = _NUMBER.unpack_from(page, _COUNT_PLACE)[0]
        return said if said <= self.count + _MOST_MISSING else 0

    @property
    def missing(self) -> int:
        """How many pages should be there and are neither in the file nor in the log."""
        beyond = sum(self.in_file < number <= self.count for number in self.log.places)
        beyond += self.in_file < _LOCK_PAGE <= self.count  # written by nobody
        return max(0, self.count - self.in_file - beyond)

    @property
    def version(self) -> int:
        """The schema's version, as the header has it."""
        page = self.read(1)
        return _NUMBER.unpack_from(page, _VERSION_PLACE)[0] if len(page) >= SCHEMA_START else 0

    def read(self, number: int) -> bytes:
        """Return a page; what is missing of it is missing."""
        if number in self.log.places and self._log_file is not None:
            return os.pread(self._log_file, PAGE_BYTES, self.log.places[number])
        if self._file is None or number < 1:
            return b""
        return os.pread(self._file, PAGE_BYTES, (number - 1) * PAGE_BYTES)

    def entry(self, number: int) -> Entry:
        """Return what the pointer map says of a page."""
        if number <= _FIRST_MAP or number == _LOCK_PAGE:
            return Entry(Use.UNKNOWN, 0)
        map_page = (number - _FIRST_MAP) // _MAP_SPAN * _MAP_SPAN + _FIRST_MAP
        map_page += map_page == _LOCK_PAGE
        place = _ENTRY.size * (number - map_page - 1)
        page = self.read(map_page)
        if not 0 <= place <= len(page) - _ENTRY.size:
            return Entry(Use.UNKNOWN, 0)
        use, above = _ENTRY.unpack_from(page, place)
        return Entry(Use(use) if use in set(Use) else Use.UNKNOWN, above)

    def owners(self, roots: Collection[int]) -> Iterator[tuple[int, int | None]]:
        """Yield every page that may hold rows, with its tree's root, None if that is unknown.

        Args:
            roots: Of the trees that are looked for.
        """
        walked = self._walk(roots)
        known: dict[int, int | None] = {}
        for number in range(_FIRST_MAP + 1, self.count + 1):
            if (number - _FIRST_MAP) % _MAP_SPAN == 0 or number == _LOCK_PAGE:
                continue
            use = self.entry(number).use
            if use in {Use.FREE, Use.FIRST_OVERFLOW, Use.OVERFLOW}:
                continue
            root = number if number in roots else self._climb(number, known)
            root = walked.get(number) if root is None else root
            page = self.read(number)
            if root is not None or page_kind(page) or not page:
                yield number, root

    def _climb(self, number: int, known: dict[int, int | None]) -> int | None:
        """Return the root above a page, None if the pointer map does not lead to one."""
        path: list[int] = []
        root: int | None = None
        at = number
        for _ in range(_DEEPEST):
            if at in known:
                root = known[at]
                break
            path.append(at)
            if at == 1:  # the schema's own tree
                root = at
                break
            entry = self.entry(at)
            if entry.use is Use.ROOT:
                root = at
                break
            if entry.use is not Use.CHILD or not 1 <= entry.above <= self.count:
                break
            at = entry.above
        known.update(dict.fromkeys(path, root))
        return root

    def _walk(self, roots: Collection[int]) -> dict[int, int]:
        """Return the pages that can be reached from roots, each with its root."""
        reached: dict[int, int] = {}
        waiting = [(root, root) for root in roots]
        while waiting:
            number, root = waiting.pop()
            if number in reached or not _FIRST_MAP < number <= self.count:
                continue
            reached[number] = root
            page = self.read(number)
            if page_kind(page) in {TABLE_INTERIOR, INDEX_INTERIOR}:
                waiting += ((child, root) for child in children_of(page))
        return reached


def children_of(page: bytes, *, start: int = 0) -> list[int]:
    """Return the pages below one, as far as it can be read."""
    found: list[int] = []
    try:
        found += read_children(page, start=start)
    except (ValueError, IndexError):
        return found
    return found


@contextmanager
def open_pages(path: Path, *, remains: bool = False) -> Iterator[Pages]:
    """Open a database file with its log for reading; either may be missing.

    Args:
        path: The database file.
        remains: Whether to take over what stands behind damage in the log, too.

    Raises:
        OSError: If they cannot be read.
    """
    log_path = path.with_name(f"{path.name}-wal")
    files = [_open(path), _open(log_path)]
    try:
        yield Pages(files[0], files[1], read_log(log_path, remains=remains))
    finally:
        for file in files:
            if file is not None:
                os.close(file)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
