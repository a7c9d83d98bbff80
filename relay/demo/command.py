"""`relay demo`: the whole of relay in half a minute, on loopback, with a proof at the end."""

import shutil
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer
from rich.text import Text

from relay.cli.exit_codes import FAILED, run
from relay.cli.output import output
from relay.clock import SystemClock
from relay.demo.acts import tell_story
from relay.demo.cast import make_app
from relay.demo.findings import gather
from relay.demo.process import DemoFailed, last_lines
from relay.demo.proof import prove
from relay.demo.report import invitation, proof_table
from relay.demo.row import Row
from relay.demo.script import MOST_EVENTS, write_script
from relay.demo.stage import LOG_NAME, Stage, open_stage
from relay.demo.view import View

APP_NAMES: Final = ("shop", "news")

DEADLINE_S: Final = 120.0
"""For the whole story; a machine of two slow cores needs a quarter of it."""

Events = Annotated[
    int, typer.Option(min=1_000, max=MOST_EVENTS, help="How many events OneSignal sends, about.")
]
Seed = Annotated[int, typer.Option(help="Another seed gives other events.")]
Keep = Annotated[
    bool, typer.Option("--keep", help="Leave everything running afterwards, until Ctrl-C.")
]


def demo(*, events: Events = 4_000, seed: Seed = 1, keep: Keep = False) -> None:
    """Show relay at work between stand-ins of both services, and prove its promises."""
    folder = Path(tempfile.mkdtemp(prefix="relay-demo-"))
    performance = Performance(folder, events, seed, keep)
    try:
        run(performance.run)
    except DemoFailed as failure:
        _lament(folder, failure)
        raise typer.Exit(FAILED) from failure
    if performance.rows is None:
        output().print("\nStopped before the end: nothing is proven.")
    elif not performance.is_proven:
        output().print(f"\nRelay's data and its log are kept in {folder}")
        raise typer.Exit(FAILED)
    shutil.rmtree(folder)
    if performance.rows is None:
        raise typer.Exit(FAILED)


@dataclass(slots=True)
class Performance:
    """One run of the demo.

    Attributes:
        folder: Where relay's data and its log go.
        events: How many events OneSignal sends, about.
        seed: Of the events.
        is_kept: Whether everything is left running afterwards.
        rows: The proof; None before the story has been told.
    """

    folder: Path
    events: int
    seed: int
    is_kept: bool
    rows: list[Row] | None = field(default=None, init=False)

    @property
    def is_proven(self) -> bool:
        """Whether every promise held."""
        return self.rows is not None and all(row.is_held for row in self.rows)

    async def run(self) -> None:
        """Tell the story and print the proof; SIGINT and SIGTERM end it at any time.

        Raises:
            DemoFailed: If the story does not come to its end.
        """
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._perform, tasks.cancel_scope, name="demo")
                await anext(aiter(signals))
                tasks.cancel_scope.cancel()

    async def _perform(self, scope: anyio.CancelScope) -> None:
        clock = SystemClock()
        apps = (make_app(APP_NAMES[0]), make_app(APP_NAMES[1]))
        script = write_script(apps, self.events, self.seed, clock.now_ms())
        view = View(output(), clock)
        async with open_stage(apps, script, self.folder, view) as stage:
            with view.showing():
                self.rows = await self._tell(stage)
            output().print(proof_table(self.rows, view.elapsed_s))
            if self.is_kept and self.is_proven:
                await self._keep(stage)
        scope.cancel()

    async def _tell(self, stage: Stage) -> list[Row]:
        with anyio.move_on_after(DEADLINE_S):
            told = await tell_story(stage)
            return prove(gather(stage, told.measured, told.answers))
        raise DemoFailed(f"the story was not told within {DEADLINE_S:g} s")

    async def _keep(self, stage: Stage) -> None:
        """Start relay once more and leave everything to the person."""
        await stage.start_relay()
        for line in invitation(stage):
            output().print(Text(line), soft_wrap=True)
        await anyio.sleep_forever()


def _lament(folder: Path, failure: DemoFailed) -> None:
    """Say why there is no proof, with relay's last words."""
    output().print(f"\nThe demo failed: {failure}")
    output().print(f"The last lines of {folder / LOG_NAME}:")
    for line in last_lines(folder / LOG_NAME):
        output().print(Text(f"  {line}"), soft_wrap=True)
