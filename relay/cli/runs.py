"""`relay runs`: attempts to bring segments up to date, and the held ones to decide about."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Final

import typer
from rich.text import Text

from relay.cli.client import Client, open_daemon_client
from relay.cli.data_access import SEGMENTS, open_client
from relay.cli.exit_codes import run
from relay.cli.json_output import JsonWriter, open_json
from relay.cli.options import AppOption, AsJson, EnvFile, Limit, known_app_if_any, read_settings
from relay.cli.output import clean, instant, new_table, output
from relay.http.admin.context import SegmentsContext
from relay.http.admin.operations import NoInput, Operation
from relay.http.admin.runs import APPROVE_RUN, LIST_RUNS, REJECT_RUN
from relay.http.admin.schemas import MAX_ID, MAX_LIMIT, Affected
from relay.http.admin.segment_schemas import RunAnswer, RunListing, RunState
from relay.settings import Settings

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List runs; approve or reject those that are held.",
)

SHOWN_RUNS: Final = 50
"""Rows of a table, unless more are asked for."""

HEADINGS: Final = ("run", "app", "cohort", "source", "state", "started", "members", "in", "out")
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
State = Annotated[RunState | None, typer.Option("--state", help="Only those in this state.")]


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
    wanted = RunListing(app=known_app_if_any(settings, app), cohort_id=cohort, state=state)
    if not as_json:
        run(partial(_show_table, settings, wanted, limit or SHOWN_RUNS))
        return
    with open_json(None, is_array=True) as writer:
        run(partial(_write, settings, wanted, limit, writer))


@commands.command()
def approve(run_id: RunId, *, env_file: EnvFile = None) -> None:
    """Apply a held run as it was downloaded, with all it removes."""
    run(partial(_decide, read_settings(env_file), APPROVE_RUN, run_id))
    output().print(
        f"run {run_id} is applied; relay segments rollback undoes it if that was a mistake"
    )


@commands.command()
def reject(run_id: RunId, *, env_file: EnvFile = None) -> None:
    """Drop a held run; the segment stays as it is until Amplitude computes the cohort anew."""
    run(partial(_decide, read_settings(env_file), REJECT_RUN, run_id))
    output().print(
        f"run {run_id} is dropped; the segment stays as it is until Amplitude computes its "
        "cohort anew"
    )


async def _decide(
    settings: Settings, operation: Operation[SegmentsContext, NoInput, Affected], run_id: int
) -> None:
    async with open_daemon_client(settings) as client:
        await client.call(operation, NoInput(), run_id=str(run_id))


async def _show_table(settings: Settings, wanted: RunListing, limit: int) -> None:
    table = new_table(HEADINGS, numbers=NUMBERS, whole=WHOLE)
    reasons = []
    is_cut = False
    async with open_client(settings, SEGMENTS) as client:
        async for one in _walk(client, wanted, limit + 1):
            if is_cut := table.row_count == limit:
                break
            table.add_row(*_cells(one))
            if one.reason:
                reasons.append(f"run {one.run_id} {one.state}: {clean(one.reason)}")
    if not table.row_count:
        output().print("no runs")
        return
    output().print(table)
    for reason in reasons:  # a column would wrap it into shreds
        output().print(Text(reason), soft_wrap=True)
    if is_cut:
        typer.echo(f"there are more; --limit {limit} ends the list here", err=True)


async def _write(
    settings: Settings, wanted: RunListing, limit: int | None, writer: JsonWriter
) -> None:
    async with open_client(settings, SEGMENTS) as client:
        async for one in _walk(client, wanted, limit):
            writer.add(one)


async def _walk(
    client: Client[SegmentsContext], wanted: RunListing, limit: int | None
) -> AsyncIterator[RunAnswer]:
    """Yield runs, newest first, at most `limit` of them."""
    after: int | None = None
    left = MAX_ID if limit is None else limit
    while left > 0:
        page_limit = min(left, MAX_LIMIT)
        asked = wanted.model_copy(update={"after": after, "limit": page_limit})
        page = await client.call(LIST_RUNS, asked)
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
