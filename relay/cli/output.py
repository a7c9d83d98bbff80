"""What commands show to people: on standard output, plain where it is no terminal."""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final

import orjson
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

PIPE_WIDTH: Final = 200
"""Columns where nobody's window sets them, so that lines stay whole for `grep`."""

GAP: Final = 2
"""Columns between columns."""


@cache
def output() -> Console:
    """Return the console for people; it colours terminals only, and heeds `NO_COLOR`."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def clean(text: str) -> str:
    """Return text from outside without what could steer a terminal."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def instant(epoch_ms: int | None) -> str:
    """Return an instant as people read it, in UTC."""
    if epoch_ms is None:
        return "never"
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(" ", "seconds")[:-6] + "Z"


def span(seconds: float) -> str:
    """Return a length of time as people say it, in its largest fitting unit."""
    for unit, unit_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def line_of(text: str) -> str:
    """Return text from outside as one line: as it is for programs, harmless for terminals."""
    if sys.stdout.isatty():
        return clean(text)
    return text if text.isprintable() else "\N{REPLACEMENT CHARACTER}".join(text.splitlines())


def new_table(
    headings: Iterable[str], *, numbers: Collection[str] = (), whole: Collection[str] = ()
) -> Table:
    """Return an empty table.

    Args:
        headings: Of its columns.
        numbers: Those whose cells are numbers.
        whole: Those whose cells stay on one line, however narrow the window is.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in headings:
        justify: JustifyMethod = "right" if heading in numbers else "left"
        is_whole = heading in numbers or heading in whole
        table.add_column(heading, overflow="fold", justify=justify, no_wrap=is_whole)
    return table


def print_aligned(rows: Iterable[Sequence[Text]]) -> None:
    """Print rows in columns; the last one runs on, so that a line stays a line."""
    held = list(rows)
    widths = [max(map(len, column)) + GAP for column in zip(*held, strict=True)][:-1]
    for *cells, last in held:
        for cell, width in zip(cells, widths, strict=True):
            cell.pad_right(width - len(cell))
        output().print(Text.assemble(*cells, last), soft_wrap=True)


def print_fields(fields: Mapping[str, str]) -> None:
    """Print names and values, one pair a line."""
    print_aligned((Text(name, style="dim"), Text(clean(text))) for name, text in fields.items())


def print_json(value: object) -> None:
    """Print a value as JSON on several lines, with nothing in it that steers a terminal."""
    print_text(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_text(text: str) -> None:
    """Print text from outside, line by line and unbroken."""
    for line in text.splitlines():
        output().print(Text(clean(line.replace("\t", "    "))), soft_wrap=True)
