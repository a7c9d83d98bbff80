"""`relay demo`: all of relay in half a minute, on loopback, with every promise checked."""

import shutil
import signal
import tempfile
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Final

import anyio
import typer
from rich.text import Text

from relay.cli.exit_codes import FAILED, run
from relay.cli.output import output
from relay.clock import SystemClock
from relay.demo.cohort_plan import make_cohort_plan
from relay.demo.config import make_app
from relay.demo.display import Display
from relay.demo.environment import LOG_NAME, Environment, Plan, open_environment
from relay.demo.relay_process import DemoFailed, last_lines
from relay.demo.report import invitation, results_table, run_checks
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
    proof: list[bool] = []
    try:
        run(partial(_run_until_signal, folder, _make_plan(events, seed), proof, keep=keep))
    except DemoFailed as failure:
        _print_failure(folder, failure)
        raise typer.Exit(FAILED) from failure
    if not proof:
        output().print("\nStopped before the end: nothing is proven.")
    elif not all(proof):
        output().print(f"\nRelay's data and its log are kept in {folder}")
        raise typer.Exit(FAILED)
    shutil.rmtree(folder)
    if not proof:
        raise typer.Exit(FAILED)


def _make_plan(events: int, seed: int) -> Plan:
    apps = (make_app(APP_NAMES[0]), make_app(APP_NAMES[1]))
    traffic = make_traffic_plan(apps, events, seed, SystemClock().now_ms())
    cohorts = make_cohort_plan(Random(f"{seed}:cohorts"))  # noqa: S311 - users, not secrets
    return Plan(apps, traffic, cohorts)


async def _run_until_signal(folder: Path, plan: Plan, proof: list[bool], *, keep: bool) -> None:
    """Run the demo to its end, or to SIGINT or SIGTERM; `proof` then says which promises held."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:

            async def run_demo() -> None:
                await _run_demo(folder, plan, proof, keep=keep)
                tasks.cancel_scope.cancel()

            tasks.start_soon(run_demo, name="demo")
            await anext(aiter(signals))
            tasks.cancel_scope.cancel()


async def _run_demo(folder: Path, plan: Plan, proof: list[bool], *, keep: bool) -> None:
    clock = SystemClock()
    display = Display(output(), clock)
    async with open_environment(plan, folder, display, clock) as env:
        with display.showing(), anyio.move_on_after(DEADLINE_S) as deadline:
            results = run_checks(await run_scenario(env))
        if deadline.cancelled_caught:
            raise DemoFailed(f"the scenario did not end within {DEADLINE_S:g} s")
        proof += [result.is_held for *_, result in results]
        output().print(results_table(results, display.elapsed_s))
        if keep and all(proof):
            await _keep(env)


async def _keep(env: Environment) -> None:
    await env.start_relay()
    output().print(Text(invitation(env)), soft_wrap=True)
    await anyio.sleep_forever()


def _print_failure(folder: Path, failure: DemoFailed) -> None:
    log = folder / LOG_NAME
    output().print(f"\nThe demo failed: {failure}")
    output().print(f"The last lines of {log}:")
    for line in last_lines(log):
        output().print(Text(f"  {line}"), soft_wrap=True)
