"""The expected segments of the demo, computed by hand."""

from random import Random

from relay.demo.cohort_plan import USERS, make_cohort_plan
from relay.demo.expected import (
    explanation_of,
    known_users,
    members_after_message,
    members_of,
)
from relay.sandbox.cohorts.project import StandInCohort

ROWS = [
    ("ann", "s1", 1, True),
    ("ann", "s2", 11, True),
    ("bob", "s3", 1, False),
    ("0", "s4", 1, True),
    (None, "s5", 1, True),
]
COHORT = StandInCohort(id="c", user_ids=("ann", "bob", "0", "1", "eve"), empty_ids=2)


def test_members_are_listed_and_known() -> None:
    """A restricted id counts if OneSignal has it nevertheless."""
    assert members_of(COHORT, known_users(ROWS)) == {"ann", "bob", "0"}


def test_an_explanation_is_counted_by_hand() -> None:
    """Every number is of another kind of entry."""
    assert explanation_of(COHORT, known_users(ROWS)) == {
        "cohort_size": 7,
        "empty_ids": 2,
        "restricted_ids": 1,
        "unknown_users": 1,
        "matched_users": 3,
        "matched_without_subscription": 0,
        "only_unsubscribed": 1,
        "subscribed_users": 2,
        "subscribed_count": 3,
    }


def test_a_message_moves_known_users_only() -> None:
    """Unknown users cannot be members."""
    known = known_users(ROWS)
    members = members_after_message(frozenset({"bob"}), ["ann", "eve"], known, is_entering=True)
    assert members == {"ann", "bob"}
    assert members_after_message(members, ["bob", "eve"], known, is_entering=False) == {"ann"}


def test_the_plan_shows_every_kind_of_entry() -> None:
    """A number that is zero would explain nothing."""
    plan = make_cohort_plan(Random(1))
    known = known_users(plan.subscriptions)
    numbers = explanation_of(plan.polled, known)
    assert len(known) == USERS
    assert min(numbers[name] for name in numbers if name != "matched_without_subscription") > 0
    assert numbers["subscribed_count"] > numbers["subscribed_users"]
    assert members_of(plan.polled, known).isdisjoint(members_of(plan.pushed, known))


def test_users_who_move_are_known_and_can() -> None:
    """Users who enter were no members, users who leave were."""
    plan = make_cohort_plan(Random(1))
    known = known_users(plan.subscriptions)
    members = set(members_of(plan.polled, known))
    for act in ("change", "broken", "shrink", "export"):
        move = plan.moves[act]
        assert members.isdisjoint(move.entering)
        assert members.issuperset(move.leaving)
        members = (members | {*move.entering}) - {*move.leaving}
    pushed = members_of(plan.pushed, known)
    assert pushed.isdisjoint(plan.moves["pushed"].entering)
    assert pushed.issuperset(plan.moves["pushed"].leaving)


def test_only_the_shrink_is_implausible() -> None:
    """The other changes must be applied without a review."""
    plan = make_cohort_plan(Random(1))
    size = len(members_of(plan.polled, known_users(plan.subscriptions)))
    shares = {act: len(move.leaving) / size for act, move in plan.moves.items()}
    assert [act for act, share in shares.items() if share > 0.2] == ["shrink"]
