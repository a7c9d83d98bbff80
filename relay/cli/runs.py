"""`relay runs`: attempts to bring segments up to date, and the held ones to decide about."""

from collections.abc import Mapping
from typing import Annotated, Final

import typer
from rich.text import Text

from relay.cli.data_access import DAEMON, SEGMENTS, call
from relay.cli.listing import Layout, Query, print_list
from relay.cli.options import AppOption, AsJson, Configured, Limit, known_app_if_any
from relay.cli.output import instant, output
from relay.http.admin.operations import NoInput
from relay.http.admin.runs import APPROVE_RUN, LIST_RUNS, REJECT_RUN
from relay.http.admin.schemas import MAX_ID, MAX_LIMIT
from relay.http.admin.segment_schemas import RunAnswer, RunListing, RunState

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List runs; approve or reject those that are held.",
)

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


def _cells(one: RunAnswer) -> Mapping[str, str | Text]:
    return {
        "run": f"{one.run_id}",
        "app": one.app,
        "cohort": one.cohort_id,
        "source": one.source,
        "state": Text(one.state, STATE_STYLES[one.state]),
        "started": instant(one.started_at),
        "members": f"{one.members:,}",
        "in": f"{one.added:,}",
        "out": f"{one.removed:,}",
    }


LAYOUT: Final = Layout(
    _cells,
    empty="no runs",
    numbers=("run", "members", "in", "out"),
    whole=("app", "cohort", "source", "state", "started"),
    note=lambda one: f"run {one.run_id} {one.state}: {one.reason}" if one.reason else None,
)


@commands.command("list")
def list_runs(
    *,
    app: AppOption = None,
    cohort: Cohort = None,
    state: State = None,
    limit: Limit = None,
    as_json: AsJson = False,
    settings: Configured,
) -> None:
    """List runs of all apps, or of one, newest first; as JSON all of them."""
    asked = RunListing(
        app=known_app_if_any(settings, app),
        cohort_id=cohort,
        state=state,
        limit=MAX_LIMIT,
    )
    print_list(settings, Query(SEGMENTS, LIST_RUNS, asked), LAYOUT, limit, as_json=as_json)


@commands.command()
def approve(run_id: RunId, *, settings: Configured) -> None:
    """Apply a held run as it was downloaded, with all it removes."""
    call(settings, DAEMON, APPROVE_RUN, NoInput(), run_id=str(run_id))
    output().print(
        f"run {run_id} is applied; relay segments rollback undoes it if that was a mistake"
    )


@commands.command()
def reject(run_id: RunId, *, settings: Configured) -> None:
    """Drop a held run; the segment stays as it is until Amplitude computes the cohort anew."""
    call(settings, DAEMON, REJECT_RUN, NoInput(), run_id=str(run_id))
    output().print(
        f"run {run_id} is dropped; the segment stays as it is until Amplitude computes its "
        "cohort anew"
    )
