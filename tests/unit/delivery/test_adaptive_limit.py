"""The limit on concurrent uploads: it decreases fast and increases slowly."""

from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.circuit_breaker import GROW_AFTER, AdaptiveLimit

SENDERS = 16


def test_it_begins_with_every_sender() -> None:
    """No failure is known yet."""
    assert AdaptiveLimit(SENDERS).limit == SENDERS


def test_it_falls_to_one_within_a_few_failures() -> None:
    """An overloaded Amplitude gets relief within a few failures."""
    adaptive_limit = AdaptiveLimit(SENDERS)
    seen = []
    for _ in range(5):
        adaptive_limit.decrease()
        seen.append(adaptive_limit.limit)
    assert seen == [8, 4, 2, 1, 1]


def test_it_grows_by_one_after_a_run_of_full_use() -> None:
    """Each step up is proven before the next."""
    adaptive_limit = AdaptiveLimit(SENDERS)
    adaptive_limit.decrease()
    for _ in range(GROW_AFTER - 1):
        adaptive_limit.record_success(adaptive_limit.limit)
    assert adaptive_limit.limit == SENDERS // 2
    adaptive_limit.record_success(adaptive_limit.limit)
    assert adaptive_limit.limit == SENDERS // 2 + 1


def test_what_was_not_used_proves_nothing() -> None:
    """Lone uploads do not show that more would succeed."""
    adaptive_limit = AdaptiveLimit(SENDERS)
    adaptive_limit.decrease()
    for _ in range(10 * GROW_AFTER):
        adaptive_limit.record_success(1)
    assert adaptive_limit.limit == SENDERS // 2


@given(st.integers(1, 64), st.integers(1, 64))
def test_it_settles_below_the_capacity(senders: int, capacity: int) -> None:
    """Against a service of limited capacity, most rounds are within its capacity."""
    adaptive_limit = AdaptiveLimit(senders)
    rounds, refused = 400, 0
    for _ in range(rounds):
        in_flight = adaptive_limit.limit
        if in_flight > capacity:
            refused += 1
            adaptive_limit.decrease()
        else:
            adaptive_limit.record_success(in_flight)
        assert 1 <= adaptive_limit.limit <= senders
    assert refused <= 7 + rounds // GROW_AFTER
    assert adaptive_limit.limit >= min(senders, capacity) // 2
