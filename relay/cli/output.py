"""What commands show to people: on standard output, plain where it is no terminal."""

import sys
from datetime import UTC, datetime
from functools import cache
from typing import Final

from rich.console import Console

PIPE_WIDTH: Final = 200
"""Columns where nobody's window sets them, so that lines stay whole for `grep`."""


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
