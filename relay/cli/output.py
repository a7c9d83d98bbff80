"""Output for people: on standard output, without colours where that is no terminal."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Final

import orjson
from rich import box
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PIPE_WIDTH: Final = 200
"""Columns where no terminal sets them; wide, so that lines stay whole for `grep`."""

GAP: Final = 2
"""Columns between columns."""


@cache
def output() -> Console:
    """Return the console of standard output; it colours terminals only, not with `NO_COLOR`."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def clean(text: str) -> str:
    """Return text from outside with control characters and escape sequences made harmless."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def instant(epoch_ms: int | None) -> str:
    """Return an instant to the second, in UTC; `never` for `None`."""
    if epoch_ms is None:
        return "never"
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(" ", "seconds")[:-6] + "Z"


def span(seconds: float) -> str:
    """Return a length of time in its largest fitting unit."""
    for unit, unit_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def line_of(text: str) -> str:
    """Return text from outside as one line: unchanged for programs, harmless for terminals."""
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
        whole: Those whose cells are never wrapped, however narrow the window is.
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
    """Print a value as indented JSON, harmless for terminals."""
    print_text(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_text(text: str) -> None:
    """Print text from outside line by line, never wrapped and harmless for terminals."""
    for line in text.splitlines():
        output().print(Text(clean(line.replace("\t", "    "))), soft_wrap=True)


@contextmanager
def progress_bar(
    doing: str, total_bytes: int, *, then: str | None = None
) -> Iterator[Callable[[int], None]]:
    """Yield a function that sets the bytes done of a bar on standard error.

    Nothing is shown where that is no terminal.

    Args:
        doing: What happens to the bytes.
        total_bytes: All there are.
        then: What happens once all of them are done.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=total_bytes)

        def proceed(done_bytes: int) -> None:
            progress.update(task, completed=done_bytes)
            if progress.finished and then is not None:
                progress.update(task, description=then)

        yield proceed
