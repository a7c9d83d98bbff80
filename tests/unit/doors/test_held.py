"""Bodies that are held, all together."""

import pytest
from aiohttp import web

from relay.doors.held import HeldBytes


def test_what_is_held_together_is_bounded_and_let_go() -> None:
    """Also what was one too many, which its sender is to send again."""
    held = HeldBytes(10)
    with held.holding() as first:
        first(6)
        with held.holding() as second:
            second(4)
            with pytest.raises(web.HTTPServiceUnavailable) as refused, held.holding() as third:
                third(1)
            assert refused.value.headers["Retry-After"]
        with held.holding() as fourth:
            fourth(4)
    with held.holding() as last:
        last(10)
