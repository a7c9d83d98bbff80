"""OneSignal's users and Amplitude's cohorts of the segment steps, made from a seed. Pure.

No user of the event steps is among them: an event makes its user known, and here the export
alone decides which users OneSignal knows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from relay.demo.expected import RESTRICTED_IDS
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.common.target import new_uuid
from relay.sandbox.onesignal.export_files import ANDROID, EMAIL, Row

USERS: Final = 6_000
_ANONYMOUS_DEVICES: Final = 300
_UNKNOWN_USERS: Final = 420
_EMPTY_IDS: Final = 130
_UNSUBSCRIBED_EVERY: Final = 7
_EMAIL_EVERY: Final = 3

_POLLED: Final = slice(0, 2_800)
_PUSHED: Final = slice(4_000, 4_450)
_MOVES: Final[Mapping[str, tuple[slice, slice]]] = {
    "change": (slice(2_800, 2_950), slice(0, 60)),
    "broken": (slice(2_950, 3_000), slice(60, 100)),
    "shrink": (slice(3_000, 3_025), slice(100, 1_300)),
    "export": (slice(3_025, 3_125), slice(1_300, 1_330)),
    "pushed": (slice(4_450, 4_451), slice(4_000, 4_001)),
}
"""Places among OneSignal's users of those who enter and of those who leave, by step."""


class Move(NamedTuple):
    """Ids that are new in a cohort's next computation, and ids that are gone from it."""

    entering: tuple[str, ...]
    leaving: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CohortPlan:
    """All users and cohorts of the segment steps."""

    subscriptions: Sequence[Row]  # OneSignal's
    polled: StandInCohort  # is downloaded
    pushed: StandInCohort  # comes by webhook only; Amplitude's list does not show it
    moves: Mapping[str, Move]  # by step
    private_ids: frozenset[str]  # of users: no log may hold them


def make_cohort_plan(rng: Random) -> CohortPlan:
    """Return a plan; the same seed gives the same."""
    users = [f"customer-{number:05d}" for number in range(USERS)]
    unknown = [f"visitor-{number:05d}" for number in range(_UNKNOWN_USERS)]
    rng.shuffle(users)
    polled = [*users[_POLLED], *unknown, *RESTRICTED_IDS]
    pushed = [*users[_PUSHED], *unknown[::10]]
    rng.shuffle(polled)
    rng.shuffle(pushed)
    return CohortPlan(
        subscriptions=list(_subscriptions(users, rng)),
        polled=StandInCohort(
            id="7khm89cz", name="Paying customers", user_ids=tuple(polled), empty_ids=_EMPTY_IDS
        ),
        pushed=StandInCohort(
            id="fplg9rf", name="Left a cart", user_ids=tuple(pushed), published=False
        ),
        moves={
            step: Move(tuple(users[entering]), tuple(users[leaving]))
            for step, (entering, leaving) in _MOVES.items()
        },
        private_ids=frozenset((*users, *unknown)),
    )


def _subscriptions(users: Iterable[str], rng: Random) -> Iterable[Row]:
    """Yield a push subscription of each user, an e-mail of some, and devices without a user."""
    for number, user in enumerate(users):
        yield user, new_uuid(rng), ANDROID, number % _UNSUBSCRIBED_EVERY != 0
        if number % _EMAIL_EVERY == 0:
            yield user, new_uuid(rng), EMAIL, number % (2 * _UNSUBSCRIBED_EVERY) != 0
    for _ in range(_ANONYMOUS_DEVICES):
        yield None, new_uuid(rng), ANDROID, True
