"""How much of its callers' bodies a door holds at a time.

Who may send can send slowly, much and often, and a slow disk makes every body wait. What is held
for all of them together is bounded; past that a sender is asked to come again. Small bodies are
always taken, so that a few who send slowly and much keep nobody else out; their number is that of
the connections.
"""

from types import TracebackType
from typing import Final, Self

from relay.http.responses import unavailable

MOST_HELD_BYTES: Final = 64 * 1024 * 1024

SMALL_BYTES: Final = 32 * 1024
"""Many times what one event takes."""


class BodyBudget:
    """Counts the bodies of all requests under way."""

    def __init__(self, most_bytes: int = MOST_HELD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0

    def holding(self) -> "Reservation":
        """Return what counts the body of one request: a `with` block around its answer."""
        return Reservation(self)

    def change(self, more_bytes: int) -> bool:
        """Note what came or went and return whether so much may be held."""
        self._held_bytes += more_bytes
        return self._held_bytes <= self._most_bytes


class Reservation:
    """The body of one request."""

    __slots__ = ("_bytes", "_held")

    def __init__(self, held: BodyBudget) -> None:
        self._held = held
        self._bytes = 0

    def __call__(self, more_bytes: int) -> None:
        """Note that so many more have come.

        Raises:
            web.HTTPServiceUnavailable: If the door holds too many.
        """
        self._bytes += more_bytes
        has_room = self._held.change(more_bytes)
        if not has_room and self._bytes > SMALL_BYTES:
            raise unavailable("too much is being sent at once")

    def __enter__(self) -> Self:
        """Begin to count."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of all of it."""
        self._held.change(-self._bytes)
