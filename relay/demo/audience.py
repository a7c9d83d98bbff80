"""Whom the cohort acts are about: OneSignal's users, Amplitude's cohorts and how they move. Pure.

Nobody of the event acts is among them: an event would make its user known, and the export alone
is to tell whom OneSignal knows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from relay.demo.truth import RESTRICTED_IDS
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.onesignal.export_files import ANDROID, EMAIL, Row
from relay.sandbox.onesignal.users import new_uuid

USERS: Final = 6_000
_ANONYMOUS: Final = 300
_STRANGERS: Final = 420
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
"""Who enters and who leaves in which act, as places among OneSignal's users."""


@dataclass(frozen=True, slots=True)
class Move:
    """How a cohort changes from one computation to the next.

    Attributes:
        entering: Ids that are new.
        leaving: Ids that are gone.
    """

    entering: tuple[str, ...]
    leaving: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audience:
    """Everybody the cohort acts are about.

    Attributes:
        subscriptions: OneSignal's, one a row.
        polled: The cohort that is downloaded.
        pushed: The cohort that comes by webhook alone: the list does not show it.
        moves: How a cohort changes in each act.
        private: All ids of persons.
    """

    subscriptions: Sequence[Row]
    polled: StandInCohort
    pushed: StandInCohort
    moves: Mapping[str, Move]
    private: frozenset[str]


def make_audience(rng: Random) -> Audience:
    """Return an audience; the same seed gives the same."""
    users = [f"customer-{number:05d}" for number in range(USERS)]
    strangers = [f"visitor-{number:05d}" for number in range(_STRANGERS)]
    rng.shuffle(users)
    polled = [*users[_POLLED], *strangers, *RESTRICTED_IDS]
    pushed = [*users[_PUSHED], *strangers[::10]]
    rng.shuffle(polled)
    rng.shuffle(pushed)
    return Audience(
        subscriptions=list(_subscriptions(users, rng)),
        polled=StandInCohort(
            id="7khm89cz", name="Paying customers", user_ids=tuple(polled), empty_ids=_EMPTY_IDS
        ),
        pushed=StandInCohort(
            id="fplg9rf", name="Left a cart", user_ids=tuple(pushed), published=False
        ),
        moves={
            act: Move(tuple(users[entering]), tuple(users[leaving]))
            for act, (entering, leaving) in _MOVES.items()
        },
        private=frozenset((*users, *strangers)),
    )


def _subscriptions(users: Iterable[str], rng: Random) -> Iterable[Row]:
    """Yield a push subscription of everybody, an e-mail address of some, and nobody's devices."""
    for number, user in enumerate(users):
        yield user, new_uuid(rng), ANDROID, number % _UNSUBSCRIBED_EVERY != 0
        if number % _EMAIL_EVERY == 0:
            yield user, new_uuid(rng), EMAIL, number % (2 * _UNSUBSCRIBED_EVERY) != 0
    for _ in range(_ANONYMOUS):
        yield None, new_uuid(rng), ANDROID, True
