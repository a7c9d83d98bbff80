"""The files Amplitude makes of cohorts, in all the shapes a reader must cope with.

A cohort's file is RFC 4180 with everything quoted, one row per user; the user id is empty
for users who never had one.

Source: Amplitude cohort help pages and readers of such files in public code, 2023 to 2026.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from relay.sandbox.common.replies import Cut, Download, Encoding

FIRST_AMPLITUDE_ID: Final = 356_896_327_775
AWKWARD_VALUE: Final = 'Plan "Pro", paid\nyearly'
_ROWS_PER_PIECE: Final = 4_096
_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>\n"
_JSON: Final = b'{"error":{"http_code":500,"type":"unspecified","metadata":{}}}'


@dataclass(frozen=True, slots=True)
class UserRange:
    """The ids `<prefix><start>` up to, without, `<prefix><stop>`; takes no memory.

    Attributes:
        prefix: What each id begins with.
        start: The first number.
        stop: The number after the last.
    """

    prefix: str = "user-"
    start: int = 0
    stop: int = 1_000

    def __iter__(self) -> Iterator[str]:
        """Yield the ids."""
        return (f"{self.prefix}{number}" for number in range(self.start, self.stop))

    def __len__(self) -> int:
        """Return how many they are."""
        return max(0, self.stop - self.start)


Members: TypeAlias = tuple[str, ...] | UserRange | Callable[[], Iterable[str]]


class FileShape(BaseModel):
    r"""What the file of a cohort looks like, and what is wrong with it.

    Attributes:
        columns: In this order; any other name is a property with an awkward value. Without
            `user_id` the header is wrong.
        tabs: Whether names and values begin with a TAB.
        line_end: `\n` or `\r\n`.
        has_bom: Whether the file begins with a byte order mark.
        max_rows: Ends the file early and well; 0 = header only.
        content: What there is instead of a table.
        encoding: How it travels.
        cut: Where it is cut; see `relay.sandbox.common.replies.Download`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...] = ("amplitude_id", "user_id")
    tabs: bool = False
    line_end: Literal["\n", "\r\n"] = "\n"
    has_bom: bool = False
    max_rows: int | None = Field(default=None, ge=0)
    content: Literal["csv", "html", "json", "empty"] = "csv"
    encoding: Encoding = "gzip"
    cut: Cut | None = None


def cohort_download(members: Members, empty_ids: int, shape: FileShape) -> Download:
    """Return the file of a cohort."""
    return Download(lambda: _pieces(members, empty_ids, shape), shape.encoding, shape.cut)


def iterate(members: Members) -> Iterable[str]:
    """Return the user ids from the beginning."""
    return members() if callable(members) else members


def _pieces(members: Members, empty_ids: int, shape: FileShape) -> Iterator[bytes]:
    if shape.content != "csv":
        yield {"html": _PAGE, "json": _JSON, "empty": b""}[shape.content]
        return
    yield (b"\xef\xbb\xbf" if shape.has_bom else b"") + _header(shape).encode()
    ids = islice(_with_empty(iterate(members), empty_ids), shape.max_rows)
    make_rows = _row_maker(shape)
    numbers = count(FIRST_AMPLITUDE_ID)
    while batch := [name.replace('"', '""') for name in islice(ids, _ROWS_PER_PIECE)]:
        yield "".join(make_rows(batch, islice(numbers, len(batch)))).encode()


def _with_empty(ids: Iterable[str], empty_ids: int) -> Iterator[str]:
    """Put the users without an id between the first ones with one."""
    if not empty_ids:
        return iter(ids)
    known = iter(ids)
    mixed = (name for each in islice(known, empty_ids) for name in (each, None))
    return _fill(chain(mixed, known), empty_ids)


def _fill(mixed: Iterable[str | None], empty_ids: int) -> Iterator[str]:
    left = empty_ids
    for name in mixed:
        left -= name is None
        yield name or ""
    yield from [""] * left


def _header(shape: FileShape) -> str:
    tab = "\t" if shape.tabs else ""
    return ",".join(f'"{tab}{name}"' for name in shape.columns) + shape.line_end


def _row_maker(shape: FileShape) -> Callable[[list[str], Iterator[int]], list[str]]:
    """Return what makes the rows of ids (quotes doubled) and numbers; it has to be quick."""
    tab = "\t" if shape.tabs else ""
    constant = AWKWARD_VALUE.replace('"', '""')
    cells = {"amplitude_id": "%d", "user_id": "%s"}
    row = ",".join(f'"{tab}{cells.get(name, constant)}"' for name in shape.columns) + shape.line_end
    varying = [name for name in shape.columns if name in cells]
    match varying:
        case ["amplitude_id", "user_id"]:
            return lambda ids, numbers: [row % pair for pair in zip(numbers, ids, strict=True)]
        case ["user_id", "amplitude_id"]:
            return lambda ids, numbers: [row % pair for pair in zip(ids, numbers, strict=True)]
        case ["user_id"]:
            return lambda ids, _: [row % (name,) for name in ids]
        case ["amplitude_id"]:
            return lambda _, numbers: [row % number for number in numbers]
        case _:
            return lambda ids, _: [row] * len(ids)
