"""Which connection is evicted at the limit, and how large the limit may be."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.http.server.connections import (
    FEWEST_CONNECTIONS,
    MOST_CONNECTIONS,
    Connections,
    share_descriptors,
)


@dataclass(eq=False)
class Opened:
    """A connection that only says what it is doing."""

    is_busy: bool = False
    is_sending: bool = False
    is_aborted: bool = False

    def abort(self) -> None:
        """Record it."""
        self.is_aborted = True


@pytest.mark.parametrize(
    ("limit", "public", "admin"),
    [
        (64, 17, 4),
        (256, 168, 24),
        (1024, 672, 96),
        (4096, 2816, 256),
        (65_536, 4096, 256),
        (1 << 30, 4096, 256),
    ],
)
def test_doors_leave_descriptors_for_the_rest(limit: int, public: int, admin: int) -> None:
    """Enough remain for everything else."""
    assert share_descriptors(limit) == (public, admin)


@given(limit=st.integers(16, 1 << 31))
def test_connection_limits_are_positive_and_bounded(limit: int) -> None:
    """Whatever the system's limit."""
    for share in share_descriptors(limit):
        assert FEWEST_CONNECTIONS <= share <= MOST_CONNECTIONS


@given(most=st.integers(1, 5), acts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3))))
async def test_the_limit_is_never_exceeded(most: int, acts: list[tuple[int, int]]) -> None:
    """In any order of opening, sending and closing; a busy connection is never aborted."""
    connections = Connections(most)
    inside: list[Opened] = []
    for who, act in acts:
        opened = inside[who] if who < len(inside) else None
        if opened is None:
            opened = Opened()
            before = len(connections)
            all_busy = all(other.is_busy for other in inside)
            connections.add(opened)
            assert opened.is_aborted == (before == most and all_busy)
            inside.append(opened)
        elif act == 0:
            connections.remove(opened)
            inside.remove(opened)
        else:
            connections.mark_active(opened)
            opened.is_busy = act == 1
        assert not any(other.is_aborted and other.is_busy for other in inside)
        inside = [other for other in inside if not other.is_aborted]
        assert len(connections) == len(inside) <= most
