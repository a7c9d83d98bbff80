"""The pages of a database file and its log as they were last committed, and whose they are.

A page is led back to its table by the pointer map, in which every page of an auto-vacuuming file
names the page above it. Where the map is damaged, it is found by walking down from the table's
root. So a damaged page costs the rows on it, not all rows below it.

Source: sqlite.org/fileformat2.html, section 1.8 (pointer map), 2026.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Final

from relay.database.recovery.format import (
    MAGIC,
    PAGE_BYTES,
    children_of,
    page_kind,
    read_page_count,
    read_schema_version,
    schema_page,
)
from relay.database.recovery.wal import Wal, read_wal, wal_path

SCHEMA_ROOT: Final = 1

_ENTRY: Final = Struct(">BI")
_MAP_SPAN: Final = PAGE_BYTES // _ENTRY.size + 1
FIRST_MAP: Final = 2
"""Pages of the pointer map follow each other in this distance, from here on."""

_LOCK_PAGE: Final = 0x40000000 // PAGE_BYTES + 1
"""SQLite's locks are in this page; it is never used."""

_DEEPEST: Final = 40

_MOST_MISSING: Final = 1_000_000
"""A damaged header may claim any size; a larger gap is not believed."""


_ROOT, _FREE, _FIRST_OVERFLOW, _OVERFLOW, _CHILD = range(1, 6)
"""What the pointer map says a page is for."""


class Pages:
    """The pages of a database; some may be missing or damaged.

    Attributes:
        wal: What its write-ahead log holds.
        count: How many there are, or should be.
        in_file: How many of them the file has.
    """

    def __init__(self, file: int | None, wal_file: int | None, wal: Wal) -> None:
        self._file = file
        self._wal_file = wal_file
        self.wal = wal
        size_bytes = os.fstat(file).st_size if file is not None else 0
        self.in_file = -(-size_bytes // PAGE_BYTES)
        self.count = wal.pages or self.last_stored
        if self.count and not wal.pages and self.is_database:
            claimed = read_page_count(self.read(1))
            if claimed <= self.count + _MOST_MISSING:
                self.count = max(self.count, claimed)

    @property
    def last_stored(self) -> int:
        """The last page that the file or the log has."""
        return max(self.in_file, max(self.wal.places, default=0))

    @property
    def is_database(self) -> bool:
        """Whether it begins as every SQLite database does."""
        return self.read(1).startswith(MAGIC)

    @property
    def missing(self) -> int:
        """How many pages should be there and are neither in the file nor in the log."""
        beyond = sum(self.in_file < number <= self.count for number in self.wal.places)
        beyond += self.in_file < _LOCK_PAGE <= self.count  # never written, so it ends no file
        return max(0, self.count - self.in_file - beyond)

    @property
    def schema_version(self) -> int:
        """The `user_version` in the header, 0 if it cannot be read."""
        return read_schema_version(self.read(1))

    def read(self, number: int) -> bytes:
        """Return a page's newest version; shorter where the file was cut."""
        if number in self.wal.places and self._wal_file is not None:
            return os.pread(self._wal_file, PAGE_BYTES, self.wal.places[number])
        if self._file is None or number < 1:
            return b""
        return os.pread(self._file, PAGE_BYTES, (number - 1) * PAGE_BYTES)

    def read_tree_page(self, number: int) -> bytes:
        """Return a page as part of a B-tree: the first one without the file's header."""
        page = self.read(number)
        return schema_page(page) if number == SCHEMA_ROOT else page

    def is_root(self, number: int) -> bool:
        """Tell whether a table or an index begins on a page, by the pointer map."""
        return self._map_entry(number)[0] == _ROOT

    def owners(self, roots: Collection[int]) -> Iterator[tuple[int, int | None]]:
        """Yield every page that may hold rows, with its tree's root, None if that is unknown.

        Args:
            roots: Of the trees that are looked for.
        """
        walked = self._walk(roots)
        known: dict[int, int | None] = {}
        for number in range(1, self.count + 1):
            if is_map_page(number) or number == _LOCK_PAGE:
                continue
            # A free page may still have rows, deleted ones.
            if self._map_entry(number)[0] in {_FREE, _FIRST_OVERFLOW, _OVERFLOW}:
                continue
            root = number if number in roots else self._climb(number, known)
            root = walked.get(number) if root is None else root
            page = self.read_tree_page(number)
            if root is not None or page_kind(page) or not page:
                yield number, root

    def _climb(self, number: int, known: dict[int, int | None]) -> int | None:
        """Return the root above a page, None if the pointer map does not lead to one."""
        path: list[int] = []
        root: int | None = None
        at = number
        for _ in range(_DEEPEST):  # a damaged map may lead in circles
            if at in known:
                root = known[at]
                break
            path.append(at)
            use, above = self._map_entry(at)
            if at == SCHEMA_ROOT or use == _ROOT:
                root = at
                break
            if use != _CHILD or not 1 <= above <= self.count:
                break
            at = above
        known.update(dict.fromkeys(path, root))
        return root

    def _map_entry(self, number: int) -> tuple[int, int]:
        """Return what the pointer map says a page is for, and the page above it; else zeros."""
        if number <= FIRST_MAP or number == _LOCK_PAGE:
            return 0, 0
        map_page = (number - FIRST_MAP) // _MAP_SPAN * _MAP_SPAN + FIRST_MAP
        map_page += map_page == _LOCK_PAGE
        place = _ENTRY.size * (number - map_page - 1)
        page = self.read(map_page)
        if not 0 <= place <= len(page) - _ENTRY.size:
            return 0, 0
        use, above = _ENTRY.unpack_from(page, place)
        return use, above

    def _walk(self, roots: Collection[int]) -> dict[int, int]:
        """Return the pages that can be reached from roots, each with its root."""
        reached: dict[int, int] = {}
        waiting = [(root, root) for root in roots]
        while waiting:
            number, root = waiting.pop()
            if number not in reached and 1 <= number <= self.count:
                reached[number] = root
                waiting += ((child, root) for child in children_of(self.read_tree_page(number)))
        return reached


def is_map_page(number: int) -> bool:
    """Tell whether a page belongs to the pointer map."""
    return (number - FIRST_MAP) % _MAP_SPAN == 0


@contextmanager
def open_pages(path: Path, *, past_damage: bool = False) -> Iterator[Pages]:
    """Open a database file with its log for reading; either may be missing.

    Args:
        path: The database file.
        past_damage: Whether to use log frames behind damaged ones, too.

    Raises:
        OSError: If they cannot be read.
    """
    files = [_open(path), _open(wal_path(path))]
    try:
        yield Pages(files[0], files[1], read_wal(wal_path(path), past_damage=past_damage))
    finally:
        for file in files:
            if file is not None:
                os.close(file)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
