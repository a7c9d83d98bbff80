"""A small world to play with: the people of the traffic, known to both services."""

from random import Random
from typing import Final

from relay.sandbox.cohort_project import Project, StandInCohort
from relay.sandbox.people import Person, make_people
from relay.sandbox.subscribers import DEVICE_TYPES, Row

TRAFFIC_SEED: Final = 1
"""That of traffic by default, whose people these are."""

_UNSUBSCRIBED_EVERY: Final = 7
_STRANGERS: Final = 20


def population(count: int) -> list[Person]:
    """Return the first people of the traffic."""
    return make_people(count, Random(TRAFFIC_SEED))  # noqa: S311 - people, not secrets


def subscriptions(people: list[Person]) -> list[Row]:
    """Return what OneSignal's export says of these people; some have unsubscribed."""
    return [
        (
            person.external_id or None,
            subscription.subscription_id,
            DEVICE_TYPES[subscription.device_type],
            number % _UNSUBSCRIBED_EVERY != 0,
        )
        for number, person in enumerate(people, 1)
        for subscription in person.subscriptions
    ]


def cohorts(people: list[Person]) -> list[StandInCohort]:
    """Return two cohorts of them; the first has members OneSignal does not know.

    Without people there are none.
    """
    if not people:
        return []
    known = [person.external_id for person in people if person.external_id]
    strangers = [f"visitor-{number}" for number in range(_STRANGERS)]
    return [
        StandInCohort(
            id="7khm89cz", name="Paying customers", user_ids=known[::2] + strangers, empty_ids=5
        ),
        StandInCohort(id="fplg9rf", name="At risk", user_ids=known[::3], empty_ids=2),
    ]


def settle(project: Project, people: list[Person], now_ms: int) -> None:
    """Put the cohorts of these people into a project."""
    for cohort in cohorts(people):
        project.put(cohort, now_ms)
