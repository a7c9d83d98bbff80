"""Bodies that are held, all together."""

import pytest
from aiohttp import web

from relay.http.server.body_budget import SMALL_BYTES, BodyBudget

LARGE = 3 * SMALL_BYTES


def test_what_is_held_together_is_bounded_and_let_go() -> None:
    """Also what was one too many, which its sender is to send again."""
    held = BodyBudget(LARGE * 2)
    with held.holding() as first, held.holding() as second:
        first(LARGE)
        second(LARGE)
        with held.holding() as third:
            third(SMALL_BYTES)
            with pytest.raises(web.HTTPServiceUnavailable) as refused:
                third(1)
        assert refused.value.headers["Retry-After"]
    with held.holding() as last:
        last(LARGE * 2)


def test_a_small_body_is_always_taken() -> None:
    """Whoever fills the room with large ones keeps nobody out who has an event to tell."""
    held = BodyBudget(LARGE)
    with held.holding() as large:
        large(LARGE)
        for _ in range(3):
            with held.holding() as small:
                small(SMALL_BYTES)
