"""The output of the demo: lines that stay and, on a terminal, live figures below."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from relay.clock import Clock

Figures: TypeAlias = Mapping[str, str | int]
"""The state of one thing, by heading; all things of one step have the same headings."""

DOWN: Final = "down"

_INDENT: Final = 12
"""Columns before the text of a line."""

_STYLES: Final = {
    "running": "green",
    "active": "green",
    "backing_off": "yellow",
    "paused": "yellow",
    "held": "yellow",
    "stale": "yellow",
    "halted": "bold red",
    DOWN: "bold red",
}


class Display:
    """Shows the steps of the scenario."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._live: Live | None = None
        self._title = ""
        self._source: Callable[[], Sequence[Figures]] = tuple
        self._figures: Sequence[Figures] = ()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the display was made."""
        return self._clock.monotonic_s() - self._began_s

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the live figures on the screen, if this is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    @contextmanager
    def step(
        self, title: str, summary: str, source: Callable[[], Sequence[Figures]]
    ) -> Iterator[None]:
        """Announce a step and show its figures while it runs, or at its end if nothing is live."""
        self._title, self._source = title, source
        self._console.print(Text.assemble((f"\n{title}. ", "bold"), summary))
        yield
        self.refresh()
        if not self._console.is_terminal:
            for figures in self._figures:
                self.say(", ".join(f"{heading} {value}" for heading, value in figures.items()))

    def say(self, text: str) -> None:
        """Print a line with the time."""
        self._console.print(Text.assemble((f"  {self.elapsed_s:5.1f} s  ", "dim"), text))

    def show(self, shown: RenderableType) -> None:
        """Print something larger than a line."""
        self._console.print(Padding(shown, (0, 0, 0, _INDENT)))

    def refresh(self) -> None:
        """Update the figures."""
        self._figures = self._source()
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)

    def _panel(self) -> RenderableType:
        title = Text.assemble("\n", (f"> {self._title}", "bold cyan"))
        if not self._figures:
            return title
        table = Table(box=box.SIMPLE, pad_edge=False)
        for heading, value in self._figures[0].items():
            table.add_column(heading, justify="right" if isinstance(value, int) else "left")
        for figures in self._figures:
            texts = map(str, figures.values())
            table.add_row(*(Text(text, _STYLES.get(text, "")) for text in texts))
        return Group(title, table)
