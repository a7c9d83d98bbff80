"""`relay segments`: the segments made of Amplitude's cohorts."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final

import typer
from rich.text import Text

from relay.cli.client import Line
from relay.cli.data_access import DAEMON, SEGMENTS, call, open_client
from relay.cli.exit_codes import run
from relay.cli.explain import explain, held_advice
from relay.cli.json_output import (
    external_id,
    print_json_line,
    print_stream,
)
from relay.cli.listing import Layout, Query, print_list
from relay.cli.options import (
    AppOption,
    AsJson,
    AsLines,
    CohortId,
    Configured,
    Yes,
    ask_first,
    known_app_if_any,
    named_or_only_app,
)
from relay.cli.output import instant, output, print_fields
from relay.errors import NotFound
from relay.http.admin.operations import NoInput
from relay.http.admin.schemas import MAX_ID, MAX_LIMIT
from relay.http.admin.segment_schemas import (
    ChangeListing,
    RollbackOrder,
    RunAnswer,
    SegmentAnswer,
    SegmentDetail,
    SegmentListing,
    SegmentState,
    UndoableRun,
)
from relay.http.admin.segments import (
    LIST_CHANGES,
    LIST_MEMBERS,
    LIST_SEGMENTS,
    ROLL_BACK_SEGMENT,
    SHOW_SEGMENT,
    SYNC_SEGMENT,
)
from relay.settings import Settings

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show segments and their members, explain their counts, bring them up to date.",
)
commands.command("explain")(explain)

STATE_STYLES: Final = {"active": "green", "held": "bold red", "stale": "yellow", "archived": "dim"}

State = Annotated[SegmentState | None, typer.Option("--state", help="Only those in this state.")]
After = Annotated[
    int, typer.Option("--after", metavar="SEQ", min=0, max=MAX_ID, help="Only later ones.")
]
ToRevision = Annotated[
    int | None,
    typer.Option("--to", metavar="REVISION", min=0, max=MAX_ID, help="Undo all runs after it."),
]


def _cells(segment: SegmentAnswer) -> Mapping[str, str | Text]:
    return {
        "app": segment.app,
        "cohort": segment.cohort_id,
        "name": segment.name,
        "state": Text(segment.state, STATE_STYLES[segment.state]),
        "size": f"{segment.cohort_size:,}",
        "members": f"{segment.matched_users:,}",
        "subscribed": f"{segment.subscribed_count:,}",
        "applied": instant(segment.applied_at),
    }


@commands.command("list")
def list_segments(
    *, app: AppOption = None, state: State = None, as_json: AsJson = False, settings: Configured
) -> None:
    """List the segments of all apps, or of one."""
    asked = SegmentListing(app=known_app_if_any(settings, app), state=state, limit=MAX_LIMIT)
    layout = Layout(
        _cells,
        empty="no segments; a segment appears when a user of a cohort is known in the directory"
        if state is None
        else f"no segments in the state {state}",
        numbers=("size", "members", "subscribed"),
        whole=("app", "cohort", "state", "applied"),
        rows=None,
    )
    print_list(settings, Query(SEGMENTS, LIST_SEGMENTS, asked), layout, as_json=as_json)


@commands.command()
def show(
    cohort_id: CohortId, *, app: AppOption = None, as_json: AsJson = False, settings: Configured
) -> None:
    """Show everything about one segment."""
    name = named_or_only_app(settings, app)
    segment, has_daemon = run(partial(_fetch, settings, name, cohort_id))
    if as_json:
        print_json_line(segment)
    else:
        _print_fields(segment, has_daemon=has_daemon)


@commands.command()
def members(
    cohort_id: CohortId, *, app: AppOption = None, as_json: AsLines = False, settings: Configured
) -> None:
    """Print the members of a segment, an External ID on each line."""
    path = {"app": named_or_only_app(settings, app), "cohort_id": cohort_id}
    print_stream(settings, LIST_MEMBERS, NoInput(), path, external_id, as_json=as_json)


@commands.command()
def changes(
    cohort_id: CohortId,
    *,
    app: AppOption = None,
    after: After = 0,
    as_json: AsLines = False,
    settings: Configured,
) -> None:
    """Print who entered a segment and who left it, oldest first."""
    path = {"app": named_or_only_app(settings, app), "cohort_id": cohort_id}
    wanted = ChangeListing(after=after)
    print_stream(settings, LIST_CHANGES, wanted, path, _change, as_json=as_json)


@commands.command()
def sync(cohort_id: CohortId, *, app: AppOption = None, settings: Configured) -> None:
    """Download a cohort now, without waiting for its share of the month's downloads."""
    name = named_or_only_app(settings, app)
    is_new = call(settings, DAEMON, SYNC_SEGMENT, NoInput(), app=name, cohort_id=cohort_id).affected
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
    settings: Configured,
) -> None:
    """Undo a segment's last run, or all runs after a revision; asks first on a terminal."""
    name = named_or_only_app(settings, app)
    what = "the last run" if to_revision is None else f"all runs after revision {to_revision}"
    ask_first(f"Undo {what} of {cohort_id}?", yes=yes)
    revision = run(partial(_roll_back, settings, name, cohort_id, to_revision))
    output().print(
        f"{what} of {cohort_id} undone{revision}; the next computation of Amplitude replaces this"
    )


async def _fetch(settings: Settings, app: str, cohort_id: str) -> tuple[SegmentDetail, bool]:
    async with open_client(settings, SEGMENTS) as client:
        segment = await client.call(SHOW_SEGMENT, NoInput(), app=app, cohort_id=cohort_id)
        return segment, client.has_daemon


async def _roll_back(settings: Settings, app: str, cohort_id: str, revision: int | None) -> str:
    """Undo runs and return in words what the segment is now."""
    path = {"app": app, "cohort_id": cohort_id}
    async with open_client(settings, SEGMENTS) as client:
        await client.call(ROLL_BACK_SEGMENT, RollbackOrder(revision=revision), **path)
        try:
            segment = await client.call(SHOW_SEGMENT, NoInput(), **path)
        except NotFound:  # back to before the first run: the cohort has no segment any more
            return ""
    return f": revision {segment.revision} has {segment.matched_users:,} members"


def _print_fields(segment: SegmentDetail, *, has_daemon: bool) -> None:
    figures = segment.explanation
    print_fields(
        {
            "app": segment.app,
            "cohort": segment.cohort_id,
            "name": segment.name,
            "state": segment.state,
            "cohort size": f"{segment.cohort_size:,}",
            "members": f"{segment.matched_users:,}",
            "subscribed": f"{segment.subscribed_count:,} subscriptions of "
            f"{figures.subscribed_users:,} members",
            "revision": f"{segment.revision}, applied {instant(segment.applied_at)}",
            "computed": instant(segment.computed_at),
            "next download": (
                _next_download(segment) if has_daemon else "unknown, as no relay is running"
            ),
            "last run": "none" if segment.last_run is None else _run(segment.last_run),
        }
    )
    for one in segment.undoable:
        output().print(Text(f"can be undone: {_undoing(one)}"), soft_wrap=True)
    if segment.state == "held":
        output().print(Text(held_advice(segment.app)), soft_wrap=True)


def _undoing(one: UndoableRun) -> str:
    """Return in words what a rollback of a run undoes, and the revision it leads back to."""
    back = "" if one.leads_back_to is None else f", back to revision {one.leads_back_to}"
    return (
        f"run {one.run_id} of {instant(one.finished_at)} ({one.source}: {one.added:,} entered, "
        f"{one.removed:,} left){back}"
    )


def _next_download(segment: SegmentDetail) -> str:
    if segment.next_download_at is None:
        return segment.waits_for or "none is due"
    waits = f": {segment.waits_for}" if segment.waits_for else ""
    return f"{instant(segment.next_download_at)}{waits}"


def _run(one: RunAnswer) -> str:
    reason = f": {one.reason}" if one.reason else ""
    return f"{one.run_id} ({one.source}) {one.state} {instant(one.finished_at)}{reason}"


def _change(line: Line) -> str:
    at = line["at"]
    return (
        f"{line['seq']:>10}  {instant(at if isinstance(at, int) else None)}  "
        f"{line['change']:<7}  {line['external_id']}"
    )
