import pytest

from relay.errors import FileRejected
from relay.segments.plausibility import check_size


@pytest.mark.parametrize(
    ("rows", "listed"),
    [
        *((0, 0), (10, 0), (1, 1), (1, 11), (11, 1), (12, 2), (40, 50), (60, 50)),
        *((800, 1000), (1000, 1000), (1200, 1000), (68, 57), (46, 57), (1_600_000, 2_000_000)),
    ],
)
def test_what_a_recomputation_may_change_passes(rows: int, listed: int) -> None:
    """A cohort moves between listing and export, the small ones by a larger share."""
    check_size(rows=rows, listed=listed)


@pytest.mark.parametrize(
    ("rows", "listed"),
    [(11, 0), (1, 12), (13, 2), (799, 1000), (1201, 1000), (69, 57), (45, 57), (500, 1000)],
)
def test_what_is_far_off_is_refused(rows: int, listed: int) -> None:
    """Too long is as suspect as too short; a person sees both numbers."""
    with pytest.raises(FileRejected) as caught:
        check_size(rows=rows, listed=listed)
    assert caught.value.reason == "size_mismatch"
    assert f"{rows} members" in caught.value.detail
    assert f"lists {listed};" in caught.value.detail


@pytest.mark.parametrize("listed", [1, 5, 10, 11, 1000])
def test_no_members_are_refused_at_any_size(listed: int) -> None:
    """An empty file is no reason to empty even the smallest segment."""
    with pytest.raises(FileRejected) as caught:
        check_size(rows=0, listed=listed)
    assert caught.value.reason == "no_members"
    assert f"lists {listed}." in caught.value.detail
