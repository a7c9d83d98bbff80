"""What a segment must be, worked out from both services' data alone. Pure.

This is the demo's own reckoning: it shares no code with relay, and asks it nothing.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, TypeAlias

from relay.sandbox.cohorts.files import iterate
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.onesignal.export_files import Row

RESTRICTED_IDS: Final = (
    "NA",
    "NULL",
    "0",
    "1",
    "-1",
    "all",
    "00000000-0000-0000-0000-000000000000",
)
"""What OneSignal takes from nobody as an External ID.

Source: OneSignal's staff in its Flutter SDK's issue 775 (2023); its page on users (2025).
"""

Members: TypeAlias = frozenset[str]
Known: TypeAlias = Mapping[str, list[bool]]
"""Users of OneSignal, each with the flags of all subscriptions."""


def known_users(rows: Iterable[Row]) -> Known:
    """Return whom an export names."""
    known: dict[str, list[bool]] = {}
    for user, _, _, is_subscribed in rows:
        if user:
            known.setdefault(user, []).append(is_subscribed)
    return known


def members_of(cohort: StandInCohort, known: Known) -> Members:
    """Return who is a member of a cohort's segment: whoever both services know."""
    return frozenset(iterate(cohort.user_ids)) & known.keys()


def explanation_of(cohort: StandInCohort, known: Known) -> dict[str, int]:
    """Return the numbers that lead from the cohort's size to the segment's count."""
    ids = frozenset(iterate(cohort.user_ids))
    strangers = ids - known.keys()
    restricted = strangers & frozenset(RESTRICTED_IDS)
    flags = [known[user] for user in ids & known.keys()]
    return {
        "cohort_size": len(ids) + cohort.empty_ids,
        "empty_ids": cohort.empty_ids,
        "restricted_ids": len(restricted),
        "unknown_users": len(strangers - restricted),
        "matched_users": len(flags),
        "matched_without_subscription": sum(not each for each in flags),
        "only_unsubscribed": sum(bool(each) and not any(each) for each in flags),
        "subscribed_users": sum(any(each) for each in flags),
        "subscribed_count": sum(sum(each) for each in flags),
    }


def after_message(
    members: Members, user_ids: Iterable[str], known: Known, *, is_entering: bool
) -> Members:
    """Return the members after a message of the webhook."""
    moved: AbstractSet[str] = frozenset(user_ids) & known.keys()
    return members | moved if is_entering else members - moved
