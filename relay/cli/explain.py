"""`relay segments explain`: why do my cohort and segment counts not match?"""

from collections.abc import Iterator
from functools import partial
from shlex import quote
from typing import Annotated, NamedTuple

import typer
from rich.text import Text

from relay.cli.admin_api import NotThere
from relay.cli.apps import AppOption, named_or_only_app
from relay.cli.explanation import numbers_of, summary, text_of
from relay.cli.failure import run
from relay.cli.options import AsJson, EnvFile, read_settings
from relay.cli.output import clean, instant, new_table, output
from relay.cli.segment_desk import SegmentDesk
from relay.cli.segment_reach import open_segment_desk
from relay.cli.segment_views import held_advice, print_ids
from relay.cli.sink import open_sink
from relay.cli.user_views import show_standing
from relay.http.admin.segment_schemas import DirectoryAnswer, ExplainAnswer, SegmentDetail
from relay.segments.read_model import GROUPS, Explanation
from relay.settings import Settings

CohortId = Annotated[
    str, typer.Argument(metavar="COHORT_ID", help="Amplitude's id, as the list shows it.")
]
Group = Annotated[
    str | None,
    typer.Option("--list", metavar="GROUP", help=f"Print the ids of {', '.join(GROUPS)}."),
]
User = Annotated[
    str | None, typer.Option("--user", metavar="EXTERNAL_ID", help="Ask about one user.")
]


class _Case(NamedTuple):
    """What is known of a cohort whose counts are to be explained; no segment, no detail."""

    explanation: ExplainAnswer
    segment: SegmentDetail | None
    directory: DirectoryAnswer


def explain(
    cohort_id: CohortId,
    *,
    app: AppOption = None,
    group: Group = None,
    user: User = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Explain why the counts of a cohort and its segment differ, in numbers that add up.

    With --list the ids behind a number, with --user why somebody is a member or is none.
    """
    settings = read_settings(env_file)
    if group is not None and user is not None:
        raise typer.BadParameter("--list and --user exclude each other")
    if group is not None and group not in GROUPS:
        raise typer.BadParameter(f"--list takes one of {', '.join(GROUPS)}")
    name = named_or_only_app(settings, app)
    if group is not None:
        run(partial(print_ids, settings, name, cohort_id, group, as_json=as_json))
    elif user is not None:
        run(partial(show_standing, settings, name, cohort_id, user, as_json=as_json))
    else:
        case = run(partial(_fetch, settings, name, cohort_id))
        if as_json:
            with open_sink(None) as sink:
                sink.add(case.explanation.model_dump_json().encode())
        else:
            _show(case, cohort_id, takes_all=settings.apps[name].membership == "all")


async def _fetch(settings: Settings, app: str, cohort_id: str) -> _Case:
    async with open_segment_desk(settings) as desk:
        return _Case(
            await desk.explain(app, cohort_id),
            await _segment_if_any(desk, app, cohort_id),
            await desk.directory(app),
        )


async def _segment_if_any(desk: SegmentDesk, app: str, cohort_id: str) -> SegmentDetail | None:
    try:
        return await desk.segment(app, cohort_id)
    except NotThere:
        return None


def _show(case: _Case, cohort_id: str, *, takes_all: bool) -> None:
    explanation = Explanation(**case.explanation.model_dump())
    output().print(Text(f"{clean(cohort_id)}: {summary(explanation)}"))
    table = new_table(("", "number", "what it is"), numbers=("number",))
    for part, number in numbers_of(explanation):
        table.add_row(part.label, f"{number:,}", text_of(part, takes_all=takes_all))
    output().print(table)
    command = f"relay segments explain --app {case.directory.app} {quote(clean(cohort_id))}"
    groups = [part.name for part, number in numbers_of(explanation) if part.has_ids and number]
    if groups:
        _say(f"the ids behind a number: {command} --list GROUP, for {', '.join(groups)}")
    _say(f"about one user: {command} --user EXTERNAL_ID")
    for note in _notes(case):
        _say(note)


def _say(line: str) -> None:
    output().print(Text(line), soft_wrap=True)


def _notes(case: _Case) -> Iterator[str]:
    """Yield what else makes the numbers differ from those the two services show now."""
    segment, directory = case.segment, case.directory
    if segment is None:
        yield "there is no segment: " + (
            "the app's SEGMENT_LIMIT allows no further one"
            if case.explanation.matched_users
            else "none of the cohort's users is known in the directory"
        )
    else:
        yield f"the cohort is as Amplitude computed it at {instant(segment.computed_at)}"
        if segment.next_download_at is not None:
            waits = f": {segment.waits_for}" if segment.waits_for else ""
            yield f"a newer list is to be downloaded at {instant(segment.next_download_at)}{waits}"
        if segment.state == "held":
            yield held_advice(segment.app)
        if segment.state in {"stale", "archived"}:
            yield f"the cohort is {segment.state} in Amplitude; its last members are kept"
    if directory.synced_at is None:
        yield (
            f"of OneSignal's users no whole export was ever applied ({directory.users:,} are "
            "known): relay directory sync, or relay directory import FILE --replace"
        )
    else:
        yield (
            f"OneSignal's users are as of {instant(directory.exported_at)}: relay directory sync "
            "refreshes them"
        )
