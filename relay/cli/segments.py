"""`relay segments`: what became of Amplitude's cohorts."""

from functools import partial
from typing import Annotated, Literal

import typer

from relay.cli.admin_api import open_admin_api
from relay.cli.apps import AppOption, known_app, named_or_only_app
from relay.cli.explain import explain
from relay.cli.failure import run
from relay.cli.options import AsJson, EnvFile, Yes, ask_first, read_settings
from relay.cli.output import output
from relay.cli.segment_desk import segment_path
from relay.cli.segment_views import (
    list_table,
    print_changes,
    print_members,
    print_segment,
    roll_back,
    write_list,
)
from relay.cli.sink import open_sink
from relay.http.admin.schemas import MAX_ID, Affected
from relay.settings import Settings

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show segments and their members, explain their counts, bring them up to date.",
)
commands.command("explain")(explain)

CohortId = Annotated[
    str, typer.Argument(metavar="COHORT_ID", help="Amplitude's id, as the list shows it.")
]
State = Annotated[
    Literal["active", "held", "stale", "archived"] | None,
    typer.Option("--state", help="Only those in this state."),
]
After = Annotated[
    int, typer.Option("--after", metavar="SEQ", min=0, max=MAX_ID, help="Only later ones.")
]
AsLines = Annotated[bool, typer.Option("--json", help="Print NDJSON.")]
ToRevision = Annotated[
    int | None,
    typer.Option("--to", metavar="REVISION", min=0, max=MAX_ID, help="Undo all runs after it."),
]


@commands.command("list")
def list_segments(
    *,
    app: AppOption = None,
    state: State = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """List the segments of all apps, or of one."""
    settings = read_settings(env_file)
    name = None if app is None else known_app(settings, app)
    if not as_json:
        run(partial(list_table, settings, name, state))
        return
    with open_sink(None, is_array=True) as sink:
        run(partial(write_list, settings, name, state, sink))


@commands.command()
def show(
    cohort_id: CohortId,
    *,
    app: AppOption = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show everything about one segment."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    run(partial(print_segment, settings, name, cohort_id, as_json=as_json))


@commands.command()
def members(
    cohort_id: CohortId,
    *,
    app: AppOption = None,
    as_json: AsLines = False,
    env_file: EnvFile = None,
) -> None:
    """Print the members of a segment, an External ID on each line."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    run(partial(print_members, settings, name, cohort_id, as_json=as_json))


@commands.command()
def changes(
    cohort_id: CohortId,
    *,
    app: AppOption = None,
    after: After = 0,
    as_json: AsLines = False,
    env_file: EnvFile = None,
) -> None:
    """Print who entered a segment and who left it, oldest first."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    run(partial(print_changes, settings, name, cohort_id, after, as_json=as_json))


@commands.command()
def sync(cohort_id: CohortId, *, app: AppOption = None, env_file: EnvFile = None) -> None:
    """Download a cohort now, without waiting for its share of the month's downloads."""
    settings = read_settings(env_file)
    is_new = run(partial(_sync, settings, named_or_only_app(settings, app), cohort_id))
    output().print(
        f"the download of {cohort_id} {'is asked for' if is_new else 'was under way already'}; "
        f"relay runs list --cohort {cohort_id} shows what becomes of it"
    )


@commands.command()
def rollback(
    cohort_id: CohortId,
    *,
    app: AppOption = None,
    to_revision: ToRevision = None,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Undo a segment's last run, or all runs after a revision; asks first on a terminal."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    what = "the last run" if to_revision is None else f"all runs after revision {to_revision}"
    ask_first(f"Undo {what} of {cohort_id}?", yes=yes)
    revision = run(partial(roll_back, settings, name, cohort_id, to_revision))
    output().print(
        f"{what} of {cohort_id} undone{revision}; the next computation of Amplitude replaces this"
    )


async def _sync(settings: Settings, app: str, cohort_id: str) -> bool:
    async with open_admin_api(settings) as api:
        path = segment_path(app, cohort_id, "sync")
        return (await api.post(path, Affected)).affected > 0
