"""What a segment must be, computed from both services' data alone. Pure.

An independent calculation: it shares no code with relay and reads nothing of relay's.
"""

from collections.abc import Iterable, Mapping
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
"""Ids that OneSignal refuses as an External ID.

Source: OneSignal's staff in its Flutter SDK's issue 775 (2023); its page on users (2025).
"""

Members: TypeAlias = frozenset[str]
NO_MEMBERS: Final[Members] = frozenset()
KnownUsers: TypeAlias = Mapping[str, list[bool]]
"""Users of OneSignal, each with the `subscribed` flags of all subscriptions."""


def known_users(rows: Iterable[Row]) -> KnownUsers:
    """Return the users that rows of OneSignal's export name."""
    known: dict[str, list[bool]] = {}
    for user, _, _, is_subscribed in rows:
        if user:
            known.setdefault(user, []).append(is_subscribed)
    return known


def members_of(cohort: StandInCohort, known: KnownUsers) -> Members:
    """Return the members of a cohort's segment: users that both services know."""
    return frozenset(iterate(cohort.user_ids)) & known.keys()


def members_after_message(
    members: Members, user_ids: Iterable[str], known: KnownUsers, *, is_entering: bool
) -> Members:
    """Return the members after a message of the cohort webhook."""
    moved = frozenset(user_ids) & known.keys()
    return members | moved if is_entering else members - moved


def explanation_of(cohort: StandInCohort, known: KnownUsers) -> dict[str, int]:
    """Return the numbers between the cohort's size and the segment's count."""
    ids = frozenset(iterate(cohort.user_ids))
    unknown = ids - known.keys()
    restricted = unknown & frozenset(RESTRICTED_IDS)
    flags = [known[user] for user in ids & known.keys()]
    return {
        "cohort_size": len(ids) + cohort.empty_ids,
        "empty_ids": cohort.empty_ids,
        "restricted_ids": len(restricted),
        "unknown_users": len(unknown - restricted),
        "matched_users": len(flags),
        "matched_without_subscription": sum(not each for each in flags),
        "only_unsubscribed": sum(bool(each) and not any(each) for each in flags),
        "subscribed_users": sum(any(each) for each in flags),
        "subscribed_count": sum(sum(each) for each in flags),
    }
