"""Rows read from the bytes of a page, without SQLite: it gives a damaged tree up as a whole.

Pure. What cannot be a row raises `ValueError`, and the rows beside it can still be read.

Source: sqlite.org/fileformat2.html, sections 1.6 (b-tree pages) and 2.1 (record format).
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

PAGE_BYTES: Final = 4096
"""SQLite's page size since 3.12, which relay never changes; nothing of a page is reserved."""

TABLE_LEAF: Final = 0x0D
TABLE_INTERIOR: Final = 0x05
INDEX_LEAF: Final = 0x0A
INDEX_INTERIOR: Final = 0x02

Value: TypeAlias = int | float | str | bytes | None
Follow: TypeAlias = Callable[[int], bytes]
"""Returns an overflow page, given its number."""

_HEADER: Final = Struct(">BHHHB")
_LONG: Final = Struct(">I")
_DOUBLE: Final = Struct(">d")
_SHORT: Final = Struct(">H")

_LEAF_HEADER: Final = 8
_INTERIOR_HEADER: Final = 12
_MOST_CELLS: Final = (PAGE_BYTES - _LEAF_HEADER) // 4
_MOST_BYTES: Final = 64 * 1024 * 1024
"""No row of relay's is longer; a damaged length may say anything."""

_TABLE_LOCAL: Final = PAGE_BYTES - 35
_INDEX_LOCAL: Final = (PAGE_BYTES - 12) * 64 // 255 - 23
_LEAST_LOCAL: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_BYTES: Final = PAGE_BYTES - 4

_INT_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)
_REAL, _ZERO, _ONE, _FIRST_BLOB = 7, 8, 9, 12
_VARINT_BYTES: Final = 9


class Cell(NamedTuple):
    """A row as it lies in a page: its rowid (None where the table has none) and its values."""

    rowid: int | None
    values: list[Value]


class Broken(NamedTuple):
    """A place that held a row and cannot be read any more."""

    why: str


def page_kind(page: bytes, *, start: int = 0) -> int:
    """Return the type of a whole b-tree page, 0 if it is none."""
    kind = page[start] if len(page) == PAGE_BYTES else 0
    return kind if kind in {TABLE_LEAF, TABLE_INTERIOR, INDEX_LEAF, INDEX_INTERIOR} else 0


def read_children(page: bytes, *, start: int = 0) -> Iterator[int]:
    """Yield the numbers of the pages below an interior page, as far as they can be read."""
    yield _LONG.unpack_from(page, start + _LEAF_HEADER)[0]
    for place in _places(page, start):
        if start + _INTERIOR_HEADER <= place <= PAGE_BYTES - _LONG.size:
            yield _LONG.unpack_from(page, place)[0]


def read_cells(page: bytes, follow: Follow, *, start: int = 0) -> Iterator[Cell | Broken]:
    """Yield every row of a page, and every place where one was.

    Args:
        page: A leaf of a table, or any page of a table without rowids.
        follow: Fetches overflow pages.
        start: Where the page's header begins: 100 on the first page.
    """
    kind = page_kind(page, start=start)
    try:
        places = list(_places(page, start))
    except ValueError as error:
        yield Broken(str(error))
        return
    for place in places:
        try:
            yield _read_cell(page, place, kind, follow)
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            yield Broken(str(error))


def _places(page: bytes, start: int) -> Iterator[int]:
    """Yield where the cells of a page begin."""
    kind, _, cells, *_ = _HEADER.unpack_from(page, start)
    if cells > _MOST_CELLS:
        raise ValueError("more cells than a page can hold")
    is_leaf = kind in {TABLE_LEAF, INDEX_LEAF}
    first = start + (_LEAF_HEADER if is_leaf else _INTERIOR_HEADER)
    for number in range(cells):
        yield _SHORT.unpack_from(page, first + _SHORT.size * number)[0]


def _read_cell(page: bytes, place: int, kind: int, follow: Follow) -> Cell:
    if kind == INDEX_INTERIOR:
        place += _LONG.size
    size_bytes, place = _read_varint(page, place)
    rowid = None
    if kind == TABLE_LEAF:
        rowid, place = _read_varint(page, place)
        rowid = rowid - (1 << 64) if rowid >> 63 else rowid
    most_local = _TABLE_LOCAL if kind == TABLE_LEAF else _INDEX_LOCAL
    return Cell(rowid, _read_record(_read_payload(page, place, size_bytes, most_local, follow)))


def _read_payload(
    page: bytes, place: int, size_bytes: int, most_local: int, follow: Follow
) -> bytes:
    """Return a row's bytes, gathered from the page and from its overflow pages."""
    if size_bytes > _MOST_BYTES:
        raise ValueError("a row longer than any")
    local = size_bytes
    if size_bytes > most_local:
        local = _LEAST_LOCAL + (size_bytes - _LEAST_LOCAL) % _OVERFLOW_BYTES
        if local > most_local:
            local = _LEAST_LOCAL
    payload = page[place : place + local]
    if len(payload) < local:
        raise ValueError("a row beyond the end of its page")
    if local == size_bytes:
        return payload
    if place + local + _LONG.size > PAGE_BYTES:
        raise ValueError("a row beyond the end of its page")
    (following,) = _LONG.unpack_from(page, place + local)
    parts, missing = [payload], size_bytes - local
    while missing > 0:
        overflow = follow(following)
        if len(overflow) < PAGE_BYTES:
            raise ValueError("a row whose continuation is missing")
        (following,) = _LONG.unpack_from(overflow)
        part = overflow[_LONG.size : _LONG.size + missing]
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _read_record(payload: bytes) -> list[Value]:
    header_bytes, place = _read_varint(payload, 0)
    body, values = header_bytes, []
    while place < header_bytes:
        serial, place = _read_varint(payload, place)
        value, body = _read_value(payload, body, serial)
        values.append(value)
    if place != header_bytes or body != len(payload):
        raise ValueError("a row whose parts do not fill it")
    return values


def _read_value(payload: bytes, place: int, serial: int) -> tuple[Value, int]:
    """Return a value and where the next one begins."""
    if serial >= _FIRST_BLOB:
        end = place + (serial - _FIRST_BLOB) // 2
        if end > len(payload):
            raise ValueError("a value beyond the end of its row")
        part = payload[place:end]
        return (part.decode() if serial % 2 else part), end
    if serial in {_ZERO, _ONE}:
        return serial - _ZERO, place
    if serial == _REAL:
        end = place + _DOUBLE.size
        if end > len(payload):
            raise ValueError("a value beyond the end of its row")
        return _DOUBLE.unpack_from(payload, place)[0], end
    if serial >= len(_INT_BYTES):
        raise ValueError("a type that is reserved")
    end = place + _INT_BYTES[serial]
    if end > len(payload):
        raise ValueError("a value beyond the end of its row")
    return (int.from_bytes(payload[place:end], signed=True) if serial else None), end


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return SQLite's variable-length integer and where the next byte is."""
    number = 0
    for length in range(1, _VARINT_BYTES + 1):
        byte = data[place]
        place += 1
        if length == _VARINT_BYTES:
            return number << 8 | byte, place
        number = number << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004  # the sign that another byte follows
            return number, place
    raise AssertionError
