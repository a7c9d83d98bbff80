"""What `relay segments` shows, from wherever segments are reached."""

from collections.abc import AsyncIterator, Callable
from typing import Final

import orjson
from rich.text import Text

from relay.cli.admin_api import Line, NotThere
from relay.cli.output import clean, instant, line_of, new_table, output, print_fields
from relay.cli.segment_desk import Lines, SegmentDesk
from relay.cli.segment_reach import open_segment_desk
from relay.cli.sink import Sink, open_sink
from relay.http.admin.segment_schemas import RunAnswer, SegmentAnswer, SegmentDetail, UndoableRun
from relay.settings import Settings

HEADINGS: Final = (
    "app",
    "cohort",
    "name",
    "state",
    "size",
    "members",
    "subscribed",
    "applied",
)
NUMBERS: Final = ("size", "members", "subscribed")
WHOLE: Final = ("app", "cohort", "state", "applied")

STATE_STYLES: Final = {"active": "green", "held": "bold red", "stale": "yellow", "archived": "dim"}


async def list_table(settings: Settings, app: str | None, state: str | None) -> None:
    """Show a table of segments."""
    table = new_table(HEADINGS, numbers=NUMBERS, whole=WHOLE)
    async with open_segment_desk(settings) as desk:
        async for segment in _walk(desk, app, state):
            table.add_row(*_cells(segment))
    if table.row_count:
        output().print(table)
    else:
        output().print(
            "no segments; a segment appears when a user of a cohort is known in the directory"
            if state is None
            else f"no segments in the state {state}"
        )


async def write_list(settings: Settings, app: str | None, state: str | None, sink: Sink) -> None:
    """Write segments as JSON."""
    async with open_segment_desk(settings) as desk:
        async for segment in _walk(desk, app, state):
            sink.add(segment.model_dump_json().encode())


async def print_segment(settings: Settings, app: str, cohort_id: str, *, as_json: bool) -> None:
    """Print everything about one segment.

    Raises:
        NotThere: If there is no such segment.
    """
    async with open_segment_desk(settings) as desk:
        segment = await desk.segment(app, cohort_id)
    if as_json:
        with open_sink(None) as sink:
            sink.add(segment.model_dump_json().encode())
    else:
        _show(segment, knows_due=desk.knows_due)


async def print_members(settings: Settings, app: str, cohort_id: str, *, as_json: bool) -> None:
    """Print the members of a segment, one a line."""
    async with open_segment_desk(settings) as desk:
        await print_lines(desk.members(app, cohort_id), _id, as_json=as_json)


async def print_ids(
    settings: Settings, app: str, cohort_id: str, group: str, *, as_json: bool
) -> None:
    """Print the ids behind one number of an explanation, one a line."""
    async with open_segment_desk(settings) as desk:
        await print_lines(desk.ids_behind(app, cohort_id, group), _id, as_json=as_json)


async def print_changes(
    settings: Settings, app: str, cohort_id: str, after: int, *, as_json: bool
) -> None:
    """Print a segment's changes, one a line."""
    async with open_segment_desk(settings) as desk:
        await print_lines(desk.changes(app, cohort_id, after=after), _change, as_json=as_json)


async def print_lines(lines: Lines, text: Callable[[Line], str], *, as_json: bool) -> None:
    """Print a stream, as NDJSON or as people read it."""
    with open_sink(None) as sink:
        async with lines as opened:
            async for line in opened:
                sink.add(orjson.dumps(line) if as_json else line_of(text(line)).encode())


async def roll_back(settings: Settings, app: str, cohort_id: str, revision: int | None) -> str:
    """Undo runs and return in words what the segment is now."""
    async with open_segment_desk(settings) as desk:
        await desk.roll_back(app, cohort_id, revision)
        try:
            segment = await desk.segment(app, cohort_id)
        except NotThere:
            return ""
    return f": revision {segment.revision} has {segment.matched_users:,} members"


def held_advice(app: str) -> str:
    """Return what to do about a held run."""
    return (
        "a newer list is held until a person decides: "
        f"relay runs list --app {app} --state held, then relay runs approve or reject RUN_ID"
    )


def _show(segment: SegmentDetail, *, knows_due: bool) -> None:
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
                _next_download(segment) if knows_due else "unknown, as no relay is running"
            ),
            "last run": "none" if segment.last_run is None else _run(segment.last_run),
        }
    )
    for run in segment.undoable:
        output().print(Text(f"can be undone: {_undoing(run)}"), soft_wrap=True)
    if segment.state == "held":
        output().print(Text(held_advice(segment.app)), soft_wrap=True)


def _undoing(run: UndoableRun) -> str:
    """Return in words what a rollback of a run undoes, and what it leads back to."""
    back = "" if run.leads_back_to is None else f", back to revision {run.leads_back_to}"
    return (
        f"run {run.run_id} of {instant(run.finished_at)} ({run.source}: {run.added:,} entered, "
        f"{run.removed:,} left){back}"
    )


async def _walk(
    desk: SegmentDesk, app: str | None, state: str | None
) -> AsyncIterator[SegmentAnswer]:
    after: int | None = 0
    while after is not None:
        page = await desk.segments(app, state, after=after)
        for segment in page.items:
            yield segment
        after = page.next


def _cells(segment: SegmentAnswer) -> list[Text]:
    return [
        Text(clean(segment.app)),
        Text(clean(segment.cohort_id)),
        Text(clean(segment.name)),
        Text(segment.state, STATE_STYLES[segment.state]),
        Text(f"{segment.cohort_size:,}"),
        Text(f"{segment.matched_users:,}"),
        Text(f"{segment.subscribed_count:,}"),
        Text(instant(segment.applied_at)),
    ]


def _next_download(segment: SegmentDetail) -> str:
    if segment.next_download_at is None:
        return segment.waits_for or "none is due"
    waits = f": {segment.waits_for}" if segment.waits_for else ""
    return f"{instant(segment.next_download_at)}{waits}"


def _run(run: RunAnswer) -> str:
    reason = f": {run.reason}" if run.reason else ""
    return f"{run.run_id} ({run.source}) {run.state} {instant(run.finished_at)}{reason}"


def _id(line: Line) -> str:
    return str(line["external_id"])


def _change(line: Line) -> str:
    at = line["at"]
    return (
        f"{line['seq']:>10}  {instant(at if isinstance(at, int) else None)}  "
        f"{line['change']:<7}  {line['external_id']}"
    )
