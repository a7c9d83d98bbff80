"""Backoff with full jitter."""

from random import Random

import pytest

from relay.delivery.circuit_breaker import BackoffPolicy


@pytest.mark.parametrize("attempt", [1, 2, 3, 8, 9, 10, 100, 10_000, 10**9])
def test_a_wait_lies_within_the_full_jitter_bounds(attempt: int) -> None:
    """Uniform between zero and the doubled base, never past the cap."""
    policy, rng = BackoffPolicy(base_s=1.0, cap_s=300.0), Random(1)
    ceiling_s = min(300.0, 2.0 ** min(attempt - 1, 60))
    waits = [policy.delay_s(attempt, rng=rng) for _ in range(500)]
    assert 0.0 <= min(waits) < 0.1 * ceiling_s
    assert 0.9 * ceiling_s < max(waits) <= ceiling_s


def test_a_wait_comes_from_the_given_source_of_chance() -> None:
    """The same seed gives the same wait, so tests can be repeated."""
    policy = BackoffPolicy(1.0, 300.0)
    assert policy.delay_s(5, rng=Random(3)) == policy.delay_s(5, rng=Random(3))


@pytest.mark.parametrize("attempt", [0, -1])
def test_an_attempt_never_made_has_no_wait(attempt: int) -> None:
    """Attempts count from one."""
    with pytest.raises(ValueError, match="never made"):
        BackoffPolicy(1.0, 300.0).delay_s(attempt, rng=Random(1))
