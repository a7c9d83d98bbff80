"""How many events fit an upload, and how a refused one is split."""

import pytest

from relay.amplitude.verdicts import Dead, Delivered, Hold, Outcome, Requeue, Settled
from relay.delivery.batching import (
    RECOVERY_UPLOADS,
    BatchLimits,
    LearnedLimits,
    halve,
    regroup,
)

LIMITS = BatchLimits(max_events=1000, max_bytes=900_000, overhead_bytes=100)
X, R, H = Dead("rejected", ""), Requeue(), Hold(frozenset("d"), frozenset(), None, "throttled")


def test_limits_count_events_envelope_and_commas() -> None:
    """Exact to the byte."""
    limits = BatchLimits(max_events=3, max_bytes=100 + 3 * 10 + 2, overhead_bytes=100)
    assert limits.admits(3, 30)
    assert not limits.admits(3, 31)
    assert not limits.admits(4, 4)
    assert limits.admits(0, 0)


@pytest.mark.parametrize(
    ("items", "halves"),
    [
        ([], []),
        ([1], [[1]]),
        ([1, 2], [[1], [2]]),
        ([1, 2, 3], [[1, 2], [3]]),
        ([1, 2, 3, 4], [[1, 2], [3, 4]]),
    ],
)
def test_halves_keep_the_order(items: list[int], halves: list[list[int]]) -> None:
    """The older half goes first."""
    assert halve(items) == halves


@pytest.mark.parametrize(
    ("outcomes", "is_partial", "parts"),
    [
        ([R, R, X, R, R, R], True, [[0, 1], [3, 4], [5]]),
        ([X, R, R], True, [[1], [2]]),
        ([R, R, X], True, [[0, 1]]),
        ([X], True, []),
        ([R, X, R, X], False, [[0, 2]]),
        ([H, R, H], False, [[1]]),
        ([X, H, X], False, []),
        ([Delivered()] * 3, False, []),
    ],
)
def test_the_rest_of_a_partial_rejection_is_requeued(
    outcomes: list[Outcome], parts: list[list[int]], *, is_partial: bool
) -> None:
    """Events before a lone named one are proven good; those after it are halved."""
    again = regroup(range(len(outcomes)), Settled(outcomes, is_partial=is_partial))
    assert [list(part) for part in again] == parts


def test_the_largest_upload_that_fitted_is_the_new_limit() -> None:
    """In events and in bytes, envelope and commas included."""
    learned = LearnedLimits(LIMITS)
    learned.learn(400, 350_000)
    assert learned.current.admits(400, 350_000)
    assert not learned.current.admits(401, 350_000)
    assert not learned.current.admits(400, 350_001)


def test_a_larger_success_never_raises_the_limit() -> None:
    """A late answer to an older, larger upload teaches nothing new."""
    learned = LearnedLimits(LIMITS)
    learned.learn(50, 10_000)
    learned.learn(500, 800_000)
    assert learned.current.max_events == 50


def test_limits_recover_step_by_step_to_what_is_configured() -> None:
    """After enough uploads at a size a larger one is tried, up to the configured limit."""
    learned = LearnedLimits(LIMITS)
    learned.learn(500, 800_000)
    for _ in range(RECOVERY_UPLOADS - 1):
        learned.grow()
    assert learned.current.max_events == 500
    learned.grow()
    assert learned.current.max_events == 1000
    for _ in range(10 * RECOVERY_UPLOADS):
        learned.grow()
    assert learned.current == LIMITS
