"""What people see: lines that stay, and below them, on a terminal, how things stand now."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relay.clock import Clock
from relay.doors.admin.models import AppStatusAnswer

DOWN: Final = "down"
_STYLES: Final = {
    "running": "green",
    "backing_off": "yellow",
    "paused": "yellow",
    "halted": "bold red",
    DOWN: "bold red",
}
_HEADINGS: Final = (
    "sent",
    "answered 200",
    "pending on disk",
    "delivered",
    "dead",
    "at Amplitude",
)


@dataclass(frozen=True, slots=True)
class AppFigures:
    """One app on both sides.

    Attributes:
        app: Its name.
        sent: Requests of OneSignal.
        answered: Those answered 200.
        relay: Relay's own numbers; None while it does not answer.
        stored: Distinct events at Amplitude.
    """

    app: str
    sent: int
    answered: int
    relay: AppStatusAnswer | None
    stored: int

    def cells(self) -> list[str]:
        """Return the figures in the order of the headings."""
        own = self.relay
        middle = ["?"] * 3 if own is None else [f"{own.pending}", f"{own.delivered}", f"{own.dead}"]
        return [f"{self.sent}", f"{self.answered}", *middle, f"{self.stored}"]

    @property
    def state(self) -> str:
        """How its delivery stands, in a word."""
        return DOWN if self.relay is None else self.relay.delivery


class View:
    """Shows the story."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._live: Live | None = None
        self._title = ""
        self._figures: Sequence[AppFigures] = ()

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

    def begin_act(self, title: str, sentence: str) -> None:
        """Say what happens now."""
        self.end_act()
        self._title = title
        self._console.print(Text.assemble((f"\n{title}", "bold"), f": {sentence}"))

    def end_act(self) -> None:
        """Where nothing moves, say how an act left things."""
        if self._title and not self._console.is_terminal:
            for figures in self._figures:
                pairs = zip(_HEADINGS, figures.cells(), strict=True)
                shown = ", ".join(f"{name} {count}" for name, count in pairs)
                self.say(f"{figures.app}: {shown}; delivery {figures.state}")
        self._title = ""

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self._console.print(Text.assemble((f"  {self.elapsed_s:5.1f} s  ", "dim"), text))

    def refresh(self, figures: Sequence[AppFigures]) -> None:
        """Show new figures."""
        self._figures = figures
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)

    def _panel(self) -> RenderableType:
        table = Table(box=box.SIMPLE, pad_edge=False)
        table.add_column("app")
        for heading in _HEADINGS:
            table.add_column(heading, justify="right")
        table.add_column("delivery")
        for figures in self._figures:
            state = Text(figures.state, style=_STYLES.get(figures.state, ""))
            table.add_row(Text(figures.app), *map(Text, figures.cells()), state)
        return Group(Text.assemble("\n", (f"> {self._title}", "bold cyan")), table)
