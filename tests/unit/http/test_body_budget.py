"""The memory budget of all bodies of a door."""

import pytest
from aiohttp import web

from relay.http.server.body import SMALL_BYTES, BodyBudget

LARGE = 3 * SMALL_BYTES


def test_all_bodies_together_are_bounded_and_released() -> None:
    """Including the one past the budget, whose client gets 503."""
    budget = BodyBudget(LARGE * 2)
    with budget.reserve() as first, budget.reserve() as second:
        first.grow(LARGE)
        second.grow(LARGE)
        with budget.reserve() as third:
            third.grow(SMALL_BYTES)
            with pytest.raises(web.HTTPServiceUnavailable) as refused:
                third.grow(1)
        assert refused.value.headers["Retry-After"]
    with budget.reserve() as last:
        last.grow(LARGE * 2)


def test_a_small_body_is_always_read() -> None:
    """Large bodies cannot keep a single event out."""
    budget = BodyBudget(LARGE)
    with budget.reserve() as large:
        large.grow(LARGE)
        for _ in range(3):
            with budget.reserve() as small:
                small.grow(SMALL_BYTES)
