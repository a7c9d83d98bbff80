"""`relay segments explain`: why a cohort's size and its segment's count differ."""

from collections.abc import Iterator
from functools import partial
from shlex import quote
from typing import Annotated, Final, NamedTuple

import typer
from rich.text import Text

from relay.cli.client import Client
from relay.cli.data_access import SEGMENTS, open_client
from relay.cli.exit_codes import run
from relay.cli.json_output import external_id, print_json_line, print_stream
from relay.cli.options import AppOption, AsJson, CohortId, Configured, named_or_only_app
from relay.cli.output import clean, instant, new_table, output
from relay.cli.users import show_membership
from relay.errors import NotFound
from relay.http.admin.context import SegmentsContext
from relay.http.admin.directory import SHOW_DIRECTORY
from relay.http.admin.operations import NoInput
from relay.http.admin.segment_schemas import (
    DirectoryAnswer,
    ExplainAnswer,
    GroupChoice,
    SegmentDetail,
)
from relay.http.admin.segments import EXPLAIN_SEGMENT, SHOW_SEGMENT
from relay.segments.read_model import GROUPS, Explanation
from relay.settings import Settings

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
    settings: Configured,
) -> None:
    """Explain why the counts of a cohort and its segment differ, in numbers that add up.

    With --list the ids behind a number, with --user why somebody is a member or is none.
    """
    if group is not None and user is not None:
        raise typer.BadParameter("--list and --user exclude each other")
    if group is not None and group not in GROUPS:
        raise typer.BadParameter(f"--list takes one of {', '.join(GROUPS)}")
    name = named_or_only_app(settings, app)
    if group is not None:
        path = {"app": name, "cohort_id": cohort_id}
        wanted = GroupChoice.model_validate({"list": group})
        print_stream(settings, EXPLAIN_SEGMENT, wanted, path, external_id, as_json=as_json)
    elif user is not None:
        show_membership(settings, name, cohort_id, user, as_json=as_json)
    else:
        case = run(partial(_fetch, settings, name, cohort_id))
        if as_json:
            print_json_line(case.explanation)
        else:
            _show(case, cohort_id, takes_all=settings.apps[name].membership == "all")


async def _fetch(settings: Settings, app: str, cohort_id: str) -> _Case:
    async with open_client(settings, SEGMENTS) as client:
        return _Case(
            await client.call(EXPLAIN_SEGMENT, GroupChoice(), app=app, cohort_id=cohort_id),
            await _segment_if_any(client, app, cohort_id),
            await client.call(SHOW_DIRECTORY, NoInput(), app=app),
        )


async def _segment_if_any(
    client: Client[SegmentsContext], app: str, cohort_id: str
) -> SegmentDetail | None:
    try:
        return await client.call(SHOW_SEGMENT, NoInput(), app=app, cohort_id=cohort_id)
    except NotFound:
        return None


def _show(case: _Case, cohort_id: str, *, takes_all: bool) -> None:
    explanation = Explanation(**case.explanation.model_dump())
    output().print(Text(f"{clean(cohort_id)}: {summary(explanation)}"))
    table = new_table(("", "number", "what it is"), numbers=("number",))
    for part, number in numbers_of(explanation):
        table.add_row(part.label, f"{number:,}", text_of(part, takes_all=takes_all))
    output().print(table)
    # People paste this into a shell, whatever the id holds.
    command = f"relay segments explain --app {case.directory.app} {quote(clean(cohort_id))}"
    groups = [part.name for part, number in numbers_of(explanation) if part.has_ids and number]
    if groups:
        _say(f"the ids behind a number: {command} --list GROUP, for {', '.join(groups)}")
    _say(f"about one user: {command} --user EXTERNAL_ID")
    for note in _notes(case):
        _say(note)


def _say(line: str) -> None:
    output().print(Text(line), soft_wrap=True)


def held_advice(app: str) -> str:
    """Return what to do about a held run."""
    return (
        "a newer list is held for review: "
        f"relay runs list --app {app} --state held, then relay runs approve or reject RUN_ID"
    )


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


class Part(NamedTuple):
    """One number of an explanation.

    Attributes:
        sign: How it relates to the numbers above it.
        name: What the API calls it; ids are listed under that name.
        text: What it means, and what can be done about it.
    """

    sign: str
    name: str
    text: str

    @property
    def label(self) -> str:
        """What stands before the number."""
        return f"{self.sign} {self.name}"

    @property
    def has_ids(self) -> bool:
        """Whether there are ids behind it."""
        return self.name in GROUPS


PARTS: Final = (
    Part(
        " ",
        "cohort_size",
        "Entries of the list that is applied. Amplitude may show another number when it has "
        "computed the cohort anew since.",
    ),
    Part(
        "-",
        "empty_ids",
        "Entries without a user id: Amplitude knows them by a device alone. The app must set the "
        "user id when somebody logs in.",
    ),
    Part(
        "-",
        "restricted_ids",
        "Ids that OneSignal refuses as External ID, such as NA, 0 or all: placeholders the app "
        "sends instead of an id.",
    ),
    Part(
        "-",
        "unknown_users",
        "OneSignal has no user with this External ID: never logged in with it, or spelt "
        "otherwise in one of the two. Users are not created by a cohort.",
    ),
    Part("=", "matched_users", "Members of the segment, people counted once each."),
    Part(
        "-",
        "matched_without_subscription",
        "Members without any subscription, by push, email or SMS: nothing can be sent to them.",
    ),
    Part(
        "-",
        "only_unsubscribed",
        "Members all of whose subscriptions are unsubscribed: not in a segment's count, though "
        "Journeys and in-app messages can still reach them.",
    ),
    Part("=", "subscribed_users", "Members with at least one subscribed subscription."),
    Part(
        " ",
        "subscribed_count",
        "The subscribed subscriptions of these members: what a segment's count is. One user may "
        "have several, one for each device, address and number.",
    ),
)

TAKES_ALL: Final = (
    "Members without any subscription, or not known to OneSignal at all: with MEMBERSHIP=all they "
    "count as members all the same."
)


def text_of(part: Part, *, takes_all: bool) -> str:
    """Return what a number means, under the app's rule of membership."""
    return TAKES_ALL if takes_all and part.name == "matched_without_subscription" else part.text


def numbers_of(explanation: Explanation) -> list[tuple[Part, int]]:
    """Return the parts with their numbers, in the order in which they add up."""
    numbers = explanation._asdict()
    return [(part, numbers[part.name]) for part in PARTS]


def summary(explanation: Explanation) -> str:
    """Return the answer in a sentence."""
    size, count = explanation.cohort_size, explanation.subscribed_count
    without = size - explanation.subscribed_users
    further = count - explanation.subscribed_users
    if not without and not further:
        return f"cohort and segment match: {size:,} users, with one subscribed subscription each"
    reasons = []
    if without:
        reasons.append(f"{without:,} of the cohort's {size:,} entries have none")
    if further:
        reasons.append(f"members with several have {further:,} besides their first")
    return f"the segment counts {count:,} subscribed subscriptions: {', and '.join(reasons)}"
