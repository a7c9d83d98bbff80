import pytest

from relay.segments.guard import GuardPolicy, Shrink, explain_hold, is_implausible

POLICY = GuardPolicy(removed_ratio=0.2, min_members=100)


@pytest.mark.parametrize(
    ("members", "removed", "held"),
    [(100, 20, False), (100, 21, True), (100, 100, True), (1000, 0, False), (1000, 201, True)],
)
def test_more_than_the_share_is_held(members: int, removed: int, *, held: bool) -> None:
    """The share itself still passes."""
    assert is_implausible(POLICY, Shrink(members=members, removed=removed)) is held


@pytest.mark.parametrize(("members", "held"), [(0, False), (99, False), (100, True), (101, True)])
def test_small_segments_may_shrink_to_nothing(members: int, *, held: bool) -> None:
    """A handful of people leaves together every day."""
    assert is_implausible(POLICY, Shrink(members=members, removed=members)) is held


@pytest.mark.parametrize(("members", "removed"), [(10, 3), (100, 30), (1000, 300), (30, 9)])
def test_a_share_that_is_no_binary_fraction_is_met_exactly(members: int, removed: int) -> None:
    """Rounding must not hold what is exactly allowed."""
    policy = GuardPolicy(removed_ratio=0.3, min_members=0)
    assert not is_implausible(policy, Shrink(members=members, removed=removed))
    assert is_implausible(policy, Shrink(members=members, removed=removed + 1))


def test_ratio_one_never_holds() -> None:
    """It is how the guard is switched off."""
    policy = GuardPolicy(removed_ratio=1, min_members=0)
    assert not is_implausible(policy, Shrink(members=5000, removed=5000))


def test_ratio_zero_holds_any_removal() -> None:
    """A single leaver is looked at; nobody leaving is not; an empty segment has nothing to lose."""
    policy = GuardPolicy(removed_ratio=0, min_members=0)
    assert is_implausible(policy, Shrink(members=5000, removed=1))
    assert not is_implausible(policy, Shrink(members=5000, removed=0))
    assert not is_implausible(policy, Shrink(members=0, removed=0))


def test_the_reason_has_the_figures_and_what_to_do() -> None:
    """Whoever decides needs nothing else to start with."""
    expected = "240 of 1000 members would leave, more than 20 %; approve or reject it"
    assert explain_hold(POLICY, Shrink(members=1000, removed=240)) == expected
    odd = GuardPolicy(removed_ratio=0.07, min_members=0)
    assert "more than 7 %;" in explain_hold(odd, Shrink(members=10, removed=1))
