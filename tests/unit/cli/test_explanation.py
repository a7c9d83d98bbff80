"""How a difference between counts is explained."""

from hypothesis import given
from hypothesis import strategies as st

from relay.cli.explain import PARTS, numbers_of, summary
from relay.segments.read_model import GROUPS, Explanation

COUNTS = st.integers(0, 10**6)


def explained(*, without: int, further: int, subscribed: int = 8) -> Explanation:
    """Return an explanation in which some of the cohort are unknown to OneSignal."""
    return Explanation(
        cohort_size=subscribed + without,
        empty_ids=0,
        restricted_ids=0,
        unknown_users=without,
        matched_users=subscribed,
        matched_without_subscription=0,
        only_unsubscribed=0,
        subscribed_users=subscribed,
        subscribed_count=subscribed + further,
    )


def test_every_number_has_its_words() -> None:
    """And every group of ids has its number."""
    assert [part.name for part in PARTS] == list(Explanation._fields)
    assert {part.name for part in PARTS if part.has_ids} == set(GROUPS)


@given(st.tuples(*[COUNTS] * 6))
def test_the_signs_say_how_the_numbers_add_up(given_counts: tuple[int, ...]) -> None:
    """Adding from the top gives each sum."""
    empty, restricted, unknown, bare, silent, subscribed = given_counts
    matched = bare + silent + subscribed
    explanation = Explanation(
        cohort_size=empty + restricted + unknown + matched,
        empty_ids=empty,
        restricted_ids=restricted,
        unknown_users=unknown,
        matched_users=matched,
        matched_without_subscription=bare,
        only_unsubscribed=silent,
        subscribed_users=subscribed,
        subscribed_count=subscribed,
    )
    ((_, left), *rest) = numbers_of(explanation)
    for part, number in rest:
        if part.sign == "-":
            left -= number
        else:
            assert left == number


def test_the_summary_names_only_what_differs() -> None:
    """It lists no reasons that do not apply."""
    assert summary(explained(without=0, further=0)) == (
        "cohort and segment match: 8 users, with one subscribed subscription each"
    )
    assert summary(explained(without=2, further=0)) == (
        "the segment counts 8 subscribed subscriptions: 2 of the cohort's 10 entries have none"
    )
    assert summary(explained(without=0, further=3)) == (
        "the segment counts 11 subscribed subscriptions: members with several have 3 besides "
        "their first"
    )
    assert summary(explained(without=2, further=3)).endswith(
        "entries have none, and members with several have 3 besides their first"
    )
