"""`relay demo`: all of relay in half a minute, on loopback, with every promise checked."""

import shutil
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Final

import anyio
import typer
from rich.text import Text

from relay.cli.failure import FAILED, run
from relay.cli.output import output
from relay.clock import SystemClock
from relay.demo.checks import Check, run_checks
from relay.demo.checks.result import Result
from relay.demo.cohort_plan import make_cohort_plan
from relay.demo.config import make_app
from relay.demo.display import Display
from relay.demo.environment import LOG_NAME, Environment, Plan, open_environment
from relay.demo.relay_process import DemoFailed, last_lines
from relay.demo.report import invitation, results_table
from relay.demo.scenario import run_scenario
from relay.demo.traffic_plan import MOST_EVENTS, make_traffic_plan

APP_NAMES: Final = ("shop", "news")

DEADLINE_S: Final = 120.0
"""For all steps; a machine of two slow cores needs a quarter of it."""

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
    one = Demo(folder, events, seed, keep)
    try:
        run(one.run)
    except DemoFailed as failure:
        _print_failure(folder, failure)
        raise typer.Exit(FAILED) from failure
    if one.results is None:
        output().print("\nStopped before the end: nothing is proven.")
    elif not one.is_proven:
        output().print(f"\nRelay's data and its log are kept in {folder}")
        raise typer.Exit(FAILED)
    shutil.rmtree(folder)
    if one.results is None:
        raise typer.Exit(FAILED)


@dataclass(slots=True)
class Demo:
    """One run of the demo.

    Attributes:
        folder: Where relay's data and its log go.
        events: The number of events OneSignal sends, about.
        seed: Of the events.
        is_kept: Whether everything is left running afterwards.
        results: Of all checks; None until the scenario has ended.
    """

    folder: Path
    events: int
    seed: int
    is_kept: bool
    results: list[tuple[Check, Result]] | None = field(default=None, init=False)

    @property
    def is_proven(self) -> bool:
        """Whether every promise held."""
        return self.results is not None and all(result.is_held for _, result in self.results)

    async def run(self) -> None:
        """Run the scenario and print the report; SIGINT and SIGTERM end it at any time.

        Raises:
            DemoFailed: If the scenario does not come to its end.
        """
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run, tasks.cancel_scope, name="demo")
                await anext(aiter(signals))
                tasks.cancel_scope.cancel()

    async def _run(self, scope: anyio.CancelScope) -> None:
        clock = SystemClock()
        apps = (make_app(APP_NAMES[0]), make_app(APP_NAMES[1]))
        traffic = make_traffic_plan(apps, self.events, self.seed, clock.now_ms())
        cohorts = make_cohort_plan(Random(f"{self.seed}:cohorts"))  # noqa: S311 - no secrets
        display = Display(output(), clock)
        plan = Plan(apps, traffic, cohorts)
        async with open_environment(plan, self.folder, display, clock) as env:
            with display.showing():
                self.results = await self._check(env)
            output().print(results_table(self.results, display.elapsed_s))
            if self.is_kept and self.is_proven:
                await self._keep(env)
        scope.cancel()

    async def _check(self, env: Environment) -> list[tuple[Check, Result]]:
        with anyio.move_on_after(DEADLINE_S):
            return run_checks(await run_scenario(env))
        raise DemoFailed(f"the scenario did not end within {DEADLINE_S:g} s")

    async def _keep(self, env: Environment) -> None:
        """Start relay once more and leave everything running."""
        await env.start_relay()
        for line in invitation(env):
            output().print(Text(line), soft_wrap=True)
        await anyio.sleep_forever()


def _print_failure(folder: Path, failure: DemoFailed) -> None:
    log = folder / LOG_NAME
    output().print(f"\nThe demo failed: {failure}")
    output().print(f"The last lines of {log}:")
    for line in last_lines(log):
        output().print(Text(f"  {line}"), soft_wrap=True)
