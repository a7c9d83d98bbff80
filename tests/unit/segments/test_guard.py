import pytest

from relay.errors import FileRejected
from relay.segments.guard import GuardPolicy, Shrink, check_size, explain_hold, is_implausible

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
    """A handful of users leaving together is an everyday change."""
    assert is_implausible(POLICY, Shrink(members=members, removed=members)) is held


@pytest.mark.parametrize(("members", "removed"), [(10, 3), (100, 30), (1000, 300), (30, 9)])
def test_a_share_that_is_no_binary_fraction_is_met_exactly(members: int, removed: int) -> None:
    """Rounding must not hold what is exactly allowed."""
    policy = GuardPolicy(removed_ratio=0.3, min_members=0)
    assert not is_implausible(policy, Shrink(members=members, removed=removed))
    assert is_implausible(policy, Shrink(members=members, removed=removed + 1))


def test_ratio_one_never_holds() -> None:
    """It turns the guard off."""
    policy = GuardPolicy(removed_ratio=1, min_members=0)
    assert not is_implausible(policy, Shrink(members=5000, removed=5000))


def test_ratio_zero_holds_any_removal() -> None:
    """A single leaver is held, none is not; an empty segment has nothing to lose."""
    policy = GuardPolicy(removed_ratio=0, min_members=0)
    assert is_implausible(policy, Shrink(members=5000, removed=1))
    assert not is_implausible(policy, Shrink(members=5000, removed=0))
    assert not is_implausible(policy, Shrink(members=0, removed=0))


def test_the_reason_has_the_figures_and_what_to_do() -> None:
    """An operator needs nothing else to start with."""
    expected = "240 of 1000 members would leave, more than 20 %; approve or reject it"
    assert explain_hold(POLICY, Shrink(members=1000, removed=240)) == expected
    odd = GuardPolicy(removed_ratio=0.07, min_members=0)
    assert "more than 7 %;" in explain_hold(odd, Shrink(members=10, removed=1))


@pytest.mark.parametrize(
    ("rows", "listed"),
    [
        *((0, 0), (10, 0), (1, 1), (1, 11), (11, 1), (12, 2), (40, 50), (60, 50)),
        *((800, 1000), (1000, 1000), (1200, 1000), (68, 57), (46, 57), (1_600_000, 2_000_000)),
    ],
)
def test_a_size_off_by_a_recomputation_passes(rows: int, listed: int) -> None:
    """A cohort changes between listing and export, small ones by a larger share."""
    check_size(rows=rows, listed=listed)


@pytest.mark.parametrize(
    ("rows", "listed"),
    [(11, 0), (1, 12), (13, 2), (799, 1000), (1201, 1000), (69, 57), (45, 57), (500, 1000)],
)
def test_a_size_far_off_is_rejected(rows: int, listed: int) -> None:
    """Too long is as suspect as too short; the error has both numbers."""
    with pytest.raises(FileRejected) as caught:
        check_size(rows=rows, listed=listed)
    assert caught.value.reason == "size_mismatch"
    assert f"{rows} members" in caught.value.detail
    assert f"lists {listed};" in caught.value.detail


@pytest.mark.parametrize("listed", [1, 5, 10, 11, 1000])
def test_an_empty_list_is_rejected_at_any_size(listed: int) -> None:
    """An empty file must not empty even the smallest segment."""
    with pytest.raises(FileRejected) as caught:
        check_size(rows=0, listed=listed)
    assert caught.value.reason == "no_members"
    assert f"lists {listed}." in caught.value.detail
