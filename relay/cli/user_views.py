"""What is shown of one user: what OneSignal knows, and what each cohort makes of it."""

from typing import Final

from rich.text import Text

from relay.cli.admin_api import NotThere
from relay.cli.output import clean, instant, new_table, output, print_fields
from relay.cli.segment_reach import open_segment_desk
from relay.cli.sink import open_sink
from relay.http.admin.segment_schemas import CohortOfUserAnswer, UserAnswer
from relay.onesignal.restricted_ids import is_restricted
from relay.settings import Settings

NOT_LISTED: Final = "Amplitude does not list the user in this cohort"


async def show_standing(
    settings: Settings, app: str, cohort_id: str, external_id: str, *, as_json: bool
) -> None:
    """Show whether a user is a member of a cohort's segment, and why or why not.

    Raises:
        NotThere: If nothing was ever received of the cohort.
    """
    async with open_segment_desk(settings) as desk:
        await desk.explain(app, cohort_id)  # so that an unknown cohort is told from a stranger
        try:
            user = await desk.user(app, external_id)
        except NotThere:
            user = UserAnswer(
                app=app,
                external_id=external_id,
                known_at=None,
                subscriptions=[],
                segments=[],
                cohorts=[],
            )
    standing = standing_in(user, cohort_id)
    if as_json:
        with open_sink(None) as sink:
            sink.add(standing.model_dump_json().encode())
    else:
        _show_standing(user, standing)


def standing_in(user: UserAnswer, cohort_id: str) -> CohortOfUserAnswer:
    """Return what a cohort says of a user; one that says nothing does not list the user."""
    for cohort in user.cohorts:
        if cohort.cohort_id == cohort_id:
            return cohort
    return CohortOfUserAnswer(
        cohort_id=cohort_id, name=cohort_id, is_listed=False, is_member=False, reason=NOT_LISTED
    )


def _show_standing(user: UserAnswer, standing: CohortOfUserAnswer) -> None:
    subscribed = sum(subscription.subscribed for subscription in user.subscriptions)
    entered_at = next(
        (one.entered_at for one in user.segments if one.cohort_id == standing.cohort_id), None
    )
    print_fields(
        {
            "user": user.external_id,
            "cohort": f"{standing.cohort_id} {standing.name}",
            "in Amplitude's list": "yes" if standing.is_listed else "no",
            "known to OneSignal": "no" if user.known_at is None else "yes",
            "member": f"yes, since {instant(entered_at)}" if standing.is_member else "no",
            "why": standing.reason or _why_member(user),
            "counts": f"{subscribed:,} subscribed of {len(user.subscriptions):,} subscriptions"
            + _weight(subscribed, is_member=standing.is_member),
            "what to do": _advice(user, standing),
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


def _advice(user: UserAnswer, standing: CohortOfUserAnswer) -> str:
    if standing.is_member:
        return "nothing"
    if not standing.is_listed:
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


async def fetch_user(settings: Settings, app: str, external_id: str) -> UserAnswer:
    """Return what is known of a user.

    Raises:
        NotThere: If the user is known nowhere.
    """
    async with open_segment_desk(settings) as desk:
        return await desk.user(app, external_id)


def show_user(user: UserAnswer) -> None:
    """Show a user's subscriptions and segments to a person."""
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
        standing = (
            cohort.cohort_id,
            cohort.name,
            "yes" if cohort.is_member else "no",
            since.get(cohort.cohort_id, ""),
            cohort.reason or "",
        )
        table.add_row(*(Text(clean(cell)) for cell in standing))
    output().print(table)
