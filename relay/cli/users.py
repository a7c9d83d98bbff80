"""Single users: `relay forget`, and what `directory show` and `segments explain` print of one."""

from functools import partial
from typing import Annotated, Final

import typer
from rich.text import Text

from relay.cli.data_access import SEGMENTS, STORES, call, open_client
from relay.cli.exit_codes import run
from relay.cli.json_output import print_json_line
from relay.cli.options import Configured, Yes, ask_first, known_app
from relay.cli.output import clean, instant, new_table, output, print_fields
from relay.errors import NotFound
from relay.http.admin.operations import NoInput
from relay.http.admin.segment_schemas import CohortOfUserAnswer, GroupChoice, UserAnswer
from relay.http.admin.segments import EXPLAIN_SEGMENT
from relay.http.admin.users import FORGET_USER, SHOW_USER
from relay.onesignal.restricted_ids import is_restricted
from relay.settings import Settings

NOT_LISTED: Final = "Amplitude does not list the user in this cohort"


def forget(
    app: Annotated[str, typer.Argument(metavar="APP", help="The app's name.")],
    external_id: Annotated[str, typer.Argument(metavar="EXTERNAL_ID", help="The user.")],
    *,
    yes: Yes = False,
    settings: Configured,
) -> None:
    """Forget a user for good: segments, directory, history, pending events, dead letters."""
    name = known_app(settings, app)
    ask_first(f"Forget this user of {name} everywhere, for good? It cannot be undone.", yes=yes)
    call(settings, STORES, FORGET_USER, NoInput(), app=name, external_id=external_id)
    output().print(
        f"the user is forgotten in {name}, and stays so; what Amplitude and OneSignal hold is to "
        "be deleted there"
    )


def show_membership(
    settings: Settings, app: str, cohort_id: str, external_id: str, *, as_json: bool
) -> None:
    """Print whether a user is a member of a cohort's segment, and why or why not.

    Raises:
        NotFound: If no list of the cohort is in force.
    """
    user = run(partial(_fetch, settings, app, cohort_id, external_id))
    membership = _membership_in(user, cohort_id)
    if as_json:
        print_json_line(membership)
    else:
        _print_membership(user, membership)


async def _fetch(settings: Settings, app: str, cohort_id: str, external_id: str) -> UserAnswer:
    async with open_client(settings, SEGMENTS) as client:
        # Asked first: a cohort that does not exist must not read as one that lacks the user.
        await client.call(EXPLAIN_SEGMENT, GroupChoice(), app=app, cohort_id=cohort_id)
        try:
            return await client.call(SHOW_USER, NoInput(), app=app, external_id=external_id)
        except NotFound:
            return UserAnswer(
                app=app,
                external_id=external_id,
                known_at=None,
                subscriptions=[],
                segments=[],
                cohorts=[],
            )


def _membership_in(user: UserAnswer, cohort_id: str) -> CohortOfUserAnswer:
    for cohort in user.cohorts:
        if cohort.cohort_id == cohort_id:
            return cohort
    return CohortOfUserAnswer(
        cohort_id=cohort_id, name=cohort_id, is_listed=False, is_member=False, reason=NOT_LISTED
    )


def _print_membership(user: UserAnswer, membership: CohortOfUserAnswer) -> None:
    subscribed = sum(subscription.subscribed for subscription in user.subscriptions)
    entered_at = next(
        (one.entered_at for one in user.segments if one.cohort_id == membership.cohort_id), None
    )
    print_fields(
        {
            "user": user.external_id,
            "cohort": f"{membership.cohort_id} {membership.name}",
            "in Amplitude's list": "yes" if membership.is_listed else "no",
            "known to OneSignal": "no" if user.known_at is None else "yes",
            "member": f"yes, since {instant(entered_at)}" if membership.is_member else "no",
            "why": membership.reason or _why_member(user),
            "counts": f"{subscribed:,} subscribed of {len(user.subscriptions):,} subscriptions"
            + _weight(subscribed, is_member=membership.is_member),
            "what to do": _advice(user, membership),
        }
    )


def _why_member(user: UserAnswer) -> str:
    if user.known_at is None:
        return "Amplitude lists the user, and MEMBERSHIP=all takes those OneSignal does not know"
    return "Amplitude lists the user, and OneSignal knows this External ID"


def _weight(subscribed: int, *, is_member: bool) -> str:
    if not is_member:
        return "; not a member, so none counts"
    return "" if subscribed else "; none is subscribed, so the segment's count leaves the user out"


def _advice(user: UserAnswer, membership: CohortOfUserAnswer) -> str:
    if membership.is_member:
        return "nothing"
    if not membership.is_listed:
        return (
            "see in Amplitude whether the cohort has the user by now; relay segments sync reads it"
        )
    if user.known_at is not None:
        return "raise the app's SEGMENT_LIMIT, or remove cohorts from COHORTS"
    if is_restricted(user.external_id):
        return "have the app set a real user id in Amplitude, and the same External ID in OneSignal"
    return (
        "have the app log in to OneSignal with this External ID; if it did, relay directory sync "
        "or import reads it"
    )


def show_user(user: UserAnswer) -> None:
    """Print a user's subscriptions, and what every cohort says of the user."""
    print_fields(
        {
            "app": user.app,
            "user": user.external_id,
            "known": "not to OneSignal" if user.known_at is None else instant(user.known_at),
        }
    )
    if user.subscriptions:
        table = new_table(("subscription", "type", "subscribed"))
        for one in user.subscriptions:
            cells = one.id, one.type, "yes" if one.subscribed else "no"
            table.add_row(*(Text(clean(cell)) for cell in cells))
        output().print(table)
    else:
        output().print("no subscriptions")
    if not user.cohorts:
        output().print("no cohort was received yet")
        return
    table = new_table(("cohort", "name", "member", "since", "why not"))
    since = {one.cohort_id: instant(one.entered_at) for one in user.segments}
    for cohort in user.cohorts:
        row = (
            cohort.cohort_id,
            cohort.name,
            "yes" if cohort.is_member else "no",
            since.get(cohort.cohort_id, ""),
            cohort.reason or "",
        )
        table.add_row(*(Text(clean(cell)) for cell in row))
    output().print(table)
