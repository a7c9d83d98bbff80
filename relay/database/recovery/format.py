"""The little of SQLite's file format that recovery reads itself: how pages hang together.

What a page holds is left to SQLite (`relay.database.recovery.page_reader`).

Source: sqlite.org/fileformat2.html, sections 1.3 (header) and 1.6 (B-tree pages), 2026.
"""

from struct import Struct
from typing import Final

PAGE_BYTES: Final = 4096
"""SQLite's page size since 3.12, which relay never changes."""

TABLE_LEAF: Final = 0x0D
TABLE_INTERIOR: Final = 0x05
INDEX_LEAF: Final = 0x0A
INDEX_INTERIOR: Final = 0x02
"""A table with rowids keeps its rows in leaves; one without is an index, with rows on all pages."""

MAGIC: Final = b"SQLite format 3\0"
HEADER_BYTES: Final = 100
"""In front of the first page's B-tree, which is the schema's."""

_INTERIORS: Final = frozenset({TABLE_INTERIOR, INDEX_INTERIOR})
_KINDS: Final = _INTERIORS | {TABLE_LEAF, INDEX_LEAF}
_LONG: Final = Struct(">I")
_SHORT: Final = Struct(">H")
_PAGE_COUNT_PLACE: Final = 28
_VERSION_PLACE: Final = 60
_CELL_COUNT_PLACE: Final = 3
_RIGHT_CHILD_PLACE: Final = 8
_LEAF_HEADER_BYTES: Final = 8
_INTERIOR_HEADER_BYTES: Final = 12
_MOST_CELLS: Final = (PAGE_BYTES - _INTERIOR_HEADER_BYTES) // _SHORT.size


def page_kind(page: bytes) -> int:
    """Return the type of a whole B-tree page, 0 if it is none."""
    kind = page[0] if len(page) == PAGE_BYTES else 0
    return kind if kind in _KINDS else 0


def read_page_count(first_page: bytes) -> int:
    """Return how many pages the header says there are, 0 if it cannot be read."""
    return _read(_LONG, first_page, _PAGE_COUNT_PLACE)


def with_any_page_count(first_page: bytes) -> bytes:
    """Return a first page that leaves it to the file's length how many pages there are."""
    return first_page[:_PAGE_COUNT_PLACE] + bytes(_LONG.size) + first_page[_PAGE_COUNT_PLACE:][4:]


def read_schema_version(first_page: bytes) -> int:
    """Return the `user_version` of the header, 0 if it cannot be read."""
    return _read(_LONG, first_page, _VERSION_PLACE)


def schema_page(first_page: bytes) -> bytes:
    """Return the B-tree of the first page as a page of its own."""
    if len(first_page) != PAGE_BYTES:
        return b""
    # Its header and list of cells move to the front; cells count from the page's start anyway.
    head_bytes = _INTERIOR_HEADER_BYTES + _SHORT.size * _cell_count(first_page[HEADER_BYTES:])
    head_bytes = min(head_bytes, PAGE_BYTES - HEADER_BYTES)
    return first_page[HEADER_BYTES:][:head_bytes] + first_page[head_bytes:]


def as_leaf(page: bytes) -> bytes:
    """Return an interior page of an index as a leaf with the same rows."""
    head = bytes([INDEX_LEAF]) + page[1:_LEAF_HEADER_BYTES]
    for place in _cell_places(page):  # a cell begins with the page below it, in an interior page
        head += _SHORT.pack((place + _LONG.size) % PAGE_BYTES)
    return head + page[len(head) :]


def children_of(page: bytes) -> list[int]:
    """Return the numbers of the pages below one; nonsense where it is damaged."""
    if page_kind(page) not in _INTERIORS:
        return []
    places = [_RIGHT_CHILD_PLACE, *_cell_places(page)]
    return [_read(_LONG, page, place) for place in places]


def _cell_places(page: bytes) -> list[int]:
    """Return where the cells of an interior page begin."""
    count = min(_cell_count(page), _MOST_CELLS)
    return [_read(_SHORT, page, _INTERIOR_HEADER_BYTES + _SHORT.size * n) for n in range(count)]


def _cell_count(page: bytes) -> int:
    return _read(_SHORT, page, _CELL_COUNT_PLACE)


def _read(number: Struct, page: bytes, place: int) -> int:
    """Return a number, 0 beyond the end of the page."""
    if place + number.size > len(page):
        return 0
    value: int = number.unpack_from(page, place)[0]
    return value
