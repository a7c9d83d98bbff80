"""How many uploads go at once: fast down, slowly up."""

from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.concurrency import GROW_AFTER, Concurrency

SENDERS = 16


def test_it_begins_with_every_sender() -> None:
    """Nothing is known to be wrong."""
    assert Concurrency(SENDERS).limit == SENDERS


def test_it_falls_to_one_within_a_few_failures() -> None:
    """Whoever is overloaded is left in peace at once."""
    concurrency = Concurrency(SENDERS)
    seen = []
    for _ in range(5):
        concurrency.fall()
        seen.append(concurrency.limit)
    assert seen == [8, 4, 2, 1, 1]


def test_it_grows_by_one_after_a_run_of_full_use() -> None:
    """Each step up is tried out before the next."""
    concurrency = Concurrency(SENDERS)
    concurrency.fall()
    for _ in range(GROW_AFTER - 1):
        concurrency.note_taken(concurrency.limit)
    assert concurrency.limit == SENDERS // 2
    concurrency.note_taken(concurrency.limit)
    assert concurrency.limit == SENDERS // 2 + 1


def test_what_was_not_used_proves_nothing() -> None:
    """Uploads that went alone do not say that more at once would be taken."""
    concurrency = Concurrency(SENDERS)
    concurrency.fall()
    for _ in range(10 * GROW_AFTER):
        concurrency.note_taken(1)
    assert concurrency.limit == SENDERS // 2


@given(st.integers(1, 64), st.integers(1, 64))
def test_it_settles_below_what_is_taken(senders: int, capacity: int) -> None:
    """Against a service that takes so many at once, most rounds are within its capacity."""
    concurrency = Concurrency(senders)
    rounds, refused = 400, 0
    for _ in range(rounds):
        under_way = concurrency.limit
        if under_way > capacity:
            refused += 1
            concurrency.fall()
        else:
            concurrency.note_taken(under_way)
        assert 1 <= concurrency.limit <= senders
    assert refused <= 7 + rounds // GROW_AFTER
    assert concurrency.limit >= min(senders, capacity) // 2
