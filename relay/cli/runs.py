"""`relay runs`: attempts to bring segments up to date, and those a person must decide about."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Final, Literal

import typer
from rich.text import Text

from relay.cli.admin_api import open_admin_api
from relay.cli.apps import AppOption, known_app
from relay.cli.failure import run
from relay.cli.options import AsJson, EnvFile, read_settings
from relay.cli.output import clean, instant, new_table, output
from relay.cli.segment_desk import PAGE_ITEMS, SegmentDesk, WantedRuns
from relay.cli.segment_reach import open_segment_desk
from relay.cli.sink import Sink, open_sink
from relay.http.admin.schemas import MAX_ID, Affected
from relay.http.admin.segment_schemas import RunAnswer
from relay.settings import Settings

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List runs; approve or reject those that are held.",
)

SHOWN_RUNS: Final = 50
"""Rows of a table, unless more are asked for."""

HEADINGS: Final = (
    "run",
    "app",
    "cohort",
    "source",
    "state",
    "started",
    "members",
    "in",
    "out",
)
NUMBERS: Final = ("run", "members", "in", "out")
WHOLE: Final = ("app", "cohort", "source", "state", "started")

STATE_STYLES: Final = {
    "running": "",
    "applied": "green",
    "unchanged": "green",
    "held": "bold red",
    "rejected": "dim",
    "failed": "yellow",
}

RunId = Annotated[
    int, typer.Argument(metavar="RUN_ID", min=1, max=MAX_ID, help="As the list shows it.")
]
Cohort = Annotated[
    str | None, typer.Option("--cohort", metavar="COHORT_ID", help="Only those of one cohort.")
]
State = Annotated[
    Literal["running", "applied", "unchanged", "held", "rejected", "failed"] | None,
    typer.Option("--state", help="Only those in this state."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]


@commands.command("list")
def list_runs(
    *,
    app: AppOption = None,
    cohort: Cohort = None,
    state: State = None,
    limit: Limit = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """List runs of all apps, or of one, newest first; as JSON all of them."""
    settings = read_settings(env_file)
    wanted = WantedRuns(None if app is None else known_app(settings, app), cohort, state)
    if not as_json:
        run(partial(_list_table, settings, wanted, limit or SHOWN_RUNS))
        return
    with open_sink(None, is_array=True) as sink:
        run(partial(_write, settings, wanted, limit, sink))


@commands.command()
def approve(run_id: RunId, *, env_file: EnvFile = None) -> None:
    """Apply a held run as it was downloaded, with all it removes."""
    run(partial(_decide, read_settings(env_file), run_id, "approve"))
    output().print(
        f"run {run_id} is applied; relay segments rollback undoes it if that was a mistake"
    )


@commands.command()
def reject(run_id: RunId, *, env_file: EnvFile = None) -> None:
    """Drop a held run; the segment stays as it is until Amplitude computes the cohort anew."""
    run(partial(_decide, read_settings(env_file), run_id, "reject"))
    output().print(
        f"run {run_id} is dropped; the segment stays as it is until Amplitude computes its "
        "cohort anew"
    )


async def _decide(settings: Settings, run_id: int, verdict: str) -> None:
    async with open_admin_api(settings) as api:
        await api.post(f"/cohort-runs/{run_id}/{verdict}", Affected)


async def _list_table(settings: Settings, wanted: WantedRuns, limit: int) -> None:
    table = new_table(HEADINGS, numbers=NUMBERS, whole=WHOLE)
    reasons = []
    is_cut = False
    async with open_segment_desk(settings) as desk:
        async for one in _walk(desk, wanted, limit + 1):
            if is_cut := table.row_count == limit:
                break
            table.add_row(*_cells(one))
            if one.reason:
                reasons.append(f"run {one.run_id} {one.state}: {clean(one.reason)}")
    if not table.row_count:
        output().print("no runs")
        return
    output().print(table)
    for reason in reasons:  # too long for a column of most windows
        output().print(Text(reason), soft_wrap=True)
    if is_cut:
        typer.echo(f"there are more; --limit {limit} ends the list here", err=True)


async def _write(settings: Settings, wanted: WantedRuns, limit: int | None, sink: Sink) -> None:
    async with open_segment_desk(settings) as desk:
        async for one in _walk(desk, wanted, limit):
            sink.add(one.model_dump_json().encode())


async def _walk(
    desk: SegmentDesk, wanted: WantedRuns, limit: int | None
) -> AsyncIterator[RunAnswer]:
    """Yield runs, newest first, up to so many."""
    after: int | None = None
    left = MAX_ID if limit is None else limit
    while left > 0:
        page = await desk.runs(wanted, after=after, limit=min(left, PAGE_ITEMS))
        for one in page.items:
            yield one
        left -= len(page.items)
        if page.next is None:
            return
        after = page.next


def _cells(one: RunAnswer) -> list[Text]:
    return [
        Text(f"{one.run_id}"),
        Text(clean(one.app)),
        Text(clean(one.cohort_id)),
        Text(one.source),
        Text(one.state, STATE_STYLES[one.state]),
        Text(instant(one.started_at)),
        Text(f"{one.members:,}"),
        Text(f"{one.added:,}"),
        Text(f"{one.removed:,}"),
    ]
