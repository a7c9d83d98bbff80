"""The files Amplitude makes of cohorts, in all shapes a reader must cope with.

A cohort's file is RFC 4180 with everything quoted, one row per user; the user id is empty
for users who never had one.

Source: Amplitude cohort help pages and readers of such files in public code, 2023 to 2026.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, repeat
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from relay.sandbox.common.replies import SIGN_IN_PAGE, Cut, Download, Encoding

FIRST_AMPLITUDE_ID: Final = 356_896_327_775
AWKWARD_VALUE: Final = 'Plan "Pro", paid\nyearly'
_ROWS_PER_PIECE: Final = 4_096
_CELLS: Final = {"amplitude_id": "%d", "user_id": "%s"}
_JSON: Final = b'{"error":{"http_code":500,"type":"unspecified","metadata":{}}}'


@dataclass(frozen=True, slots=True)
class UserRange:
    """The ids from `<prefix><start>` up to but without `<prefix><stop>`; takes no memory.

    Attributes:
        prefix: Start of each id.
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
        """Return the number of ids."""
        return max(0, self.stop - self.start)


Members: TypeAlias = tuple[str, ...] | UserRange | Callable[[], Iterable[str]]


class FileShape(BaseModel):
    r"""The layout of a cohort's file, and what is wrong with it.

    Attributes:
        columns: In this order; any other name is a property with an awkward value. Without
            `user_id` the header is wrong.
        tabs: Whether names and values begin with a TAB.
        line_end: `\n` or `\r\n`.
        has_bom: Whether the file begins with a byte order mark.
        max_rows: Ends the file early, but well formed; 0 = header only.
        content: What there is instead of a table.
        encoding: How it is transferred.
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
        yield {"html": SIGN_IN_PAGE, "json": _JSON, "empty": b""}[shape.content]
        return
    tab = "\t" if shape.tabs else ""
    header = ",".join(f'"{tab}{name}"' for name in shape.columns) + shape.line_end
    yield (b"\xef\xbb\xbf" if shape.has_bom else b"") + header.encode()
    # Formatted by `%` from one template: a million rows take a second, not ten.
    constant = AWKWARD_VALUE.replace('"', '""')
    cells = [f'"{tab}{_CELLS.get(name, constant)}"' for name in shape.columns]
    row = ",".join(cells) + shape.line_end
    ids, numbers = (
        islice(_with_empty(members, empty_ids), shape.max_rows),
        count(FIRST_AMPLITUDE_ID),
    )
    while batch := [name.replace('"', '""') for name in islice(ids, _ROWS_PER_PIECE)]:
        sources = {"user_id": batch, "amplitude_id": list(islice(numbers, len(batch)))}
        columns = [sources[name] for name in shape.columns if name in sources]
        rows = map(row.__mod__, zip(*columns, strict=True)) if columns else [row] * len(batch)
        yield "".join(rows).encode()


def _with_empty(members: Members, empty_ids: int) -> Iterator[str]:
    """Yield the ids; the first ones alternate with users who have none."""
    left, known = empty_ids, iter(iterate(members))
    for name in islice(known, empty_ids):
        yield name
        yield ""
        left -= 1
    yield from known
    yield from repeat("", left)
