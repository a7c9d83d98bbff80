"""How much of its callers' bodies a door holds at a time.

Who may send can send slowly, much and often, and a slow disk makes every body wait. What is held
for all of them together is bounded; past that a sender is asked to come again.
"""

from types import TracebackType
from typing import Final, Self

from relay.doors.door import unavailable

MOST_HELD_BYTES: Final = 64 * 1024 * 1024


class HeldBytes:
    """Counts the bodies of all requests under way."""

    def __init__(self, most_bytes: int = MOST_HELD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0

    def holding(self) -> "Hold":
        """Return what counts the body of one request: a `with` block around its answer."""
        return Hold(self)

    def change(self, more_bytes: int) -> None:
        """Note what came or went.

        Raises:
            web.HTTPServiceUnavailable: If that is more than may be held.
        """
        self._held_bytes += more_bytes
        if more_bytes > 0 and self._held_bytes > self._most_bytes:
            raise unavailable("too much is being sent at once")


class Hold:
    """The body of one request."""

    __slots__ = ("_bytes", "_held")

    def __init__(self, held: HeldBytes) -> None:
        self._held = held
        self._bytes = 0

    def __call__(self, more_bytes: int) -> None:
        """Note that so many more have come.

        Raises:
            web.HTTPServiceUnavailable: If the door holds too many.
        """
        self._bytes += more_bytes
        self._held.change(more_bytes)

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
