"""What people see: lines that stay, and below them, on a terminal, how things stand now."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from relay.clock import Clock
from relay.http.admin.schemas import AppStatusAnswer

DOWN: Final = "down"

STORY_INDENT: Final = 12
"""Columns before the words of a line."""

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


@dataclass(frozen=True, slots=True)
class Figures:
    """How one thing stands.

    Attributes:
        kind: What it is: the heading of its name.
        name: Its name.
        numbers: By their headings; alike in all things of a kind.
        state_heading: Heading of its state.
        state: How it stands, in a word.
    """

    kind: str
    name: str
    numbers: Mapping[str, str]
    state_heading: str
    state: str


def app_figures(
    app: str, *, sent: int, answered: int, relay: AppStatusAnswer | None, stored: int
) -> Figures:
    """Return how one app stands on both sides.

    Args:
        app: Its name.
        sent: Requests of OneSignal.
        answered: Those answered 200.
        relay: Relay's own numbers; None while it does not answer.
        stored: Distinct events at Amplitude.
    """
    numbers = {
        "sent": f"{sent}",
        "answered 200": f"{answered}",
        "pending on disk": "?" if relay is None else f"{relay.pending}",
        "delivered": "?" if relay is None else f"{relay.delivered}",
        "dead": "?" if relay is None else f"{relay.dead}",
        "at Amplitude": f"{stored}",
    }
    return Figures("app", app, numbers, "delivery", DOWN if relay is None else relay.delivery)


class View:
    """Shows the story."""

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
        """Seconds since the beginning."""
        return self._clock.monotonic_s() - self._began_s

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the moving part on the screen while the block runs, if this is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    @contextmanager
    def following(self, source: Callable[[], Sequence[Figures]]) -> Iterator[None]:
        """Show these figures while the block runs."""
        before, self._source = self._source, source
        try:
            yield
        finally:
            self._source = before

    def begin_act(self, title: str, sentence: str) -> None:
        """Say what happens now."""
        self.end_act()
        self._title = title
        self._console.print(Text.assemble((f"\n{title}", "bold"), f": {sentence}"))

    def end_act(self) -> None:
        """Where nothing moves, say how an act left things."""
        if self._title and not self._console.is_terminal:
            for figures in self._figures:
                shown = ", ".join(f"{name} {count}" for name, count in figures.numbers.items())
                self.say(f"{figures.name}: {shown}; {figures.state_heading} {figures.state}")
        self._title = ""

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self._console.print(Text.assemble((f"  {self.elapsed_s:5.1f} s  ", "dim"), text))

    def show(self, shown: RenderableType) -> None:
        """Add something larger than a line to the story."""
        self._console.print(Padding(shown, (0, 0, 0, STORY_INDENT)))

    def refresh(self) -> None:
        """Show how things stand now."""
        self._figures = self._source()
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)

    def _panel(self) -> RenderableType:
        title = Text.assemble("\n", (f"> {self._title}", "bold cyan"))
        if not self._figures:
            return title
        first = self._figures[0]
        table = Table(box=box.SIMPLE, pad_edge=False)
        table.add_column(first.kind)
        for heading in first.numbers:
            table.add_column(heading, justify="right")
        table.add_column(first.state_heading)
        for figures in self._figures:
            state = Text(figures.state, style=_STYLES.get(figures.state, ""))
            table.add_row(Text(figures.name), *map(Text, figures.numbers.values()), state)
        return Group(title, table)
