"""Who stays at a door that is full, and how large a door may be."""

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
class Guest:
    """A connection that only says what it is doing."""

    is_busy: bool = False
    is_sending: bool = False
    is_cut: bool = False

    def cut(self) -> None:
        """Note it."""
        self.is_cut = True


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
def test_descriptors_are_shared_out(limit: int, public: int, admin: int) -> None:
    """Enough are left for what is no door."""
    assert share_descriptors(limit) == (public, admin)


@given(limit=st.integers(16, 1 << 31))
def test_doors_are_never_shut_and_never_boundless(limit: int) -> None:
    """Whatever the system allows."""
    for share in share_descriptors(limit):
        assert FEWEST_CONNECTIONS <= share <= MOST_CONNECTIONS


@given(most=st.integers(1, 5), acts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3))))
async def test_there_are_never_more_than_may_be(most: int, acts: list[tuple[int, int]]) -> None:
    """Whoever comes, asks, is answered and goes, in whatever order; a busy one is never cut."""
    connections = Connections(most)
    inside: list[Guest] = []
    for who, act in acts:
        guest = inside[who] if who < len(inside) else None
        if guest is None:
            guest = Guest()
            before = len(connections)
            all_busy = all(other.is_busy for other in inside)
            connections.admit(guest)
            assert guest.is_cut == (before == most and all_busy)
            inside.append(guest)
        elif act == 0:
            connections.forget(guest)
            inside.remove(guest)
        else:
            connections.asked(guest)
            guest.is_busy = act == 1
        assert not any(other.is_cut and other.is_busy for other in inside)
        inside = [other for other in inside if not other.is_cut]
        assert len(connections) == len(inside) <= most
