"""Time as a dependency: the only module that reads a clock.

Wall time stamps what is stored (UTC epoch milliseconds, `int`); monotonic time
measures waits (seconds, `float`). Rules never call either: time is an argument.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where services learn what time it is."""

    def now_ms(self) -> int:
        """Return the wall time in UTC epoch milliseconds."""

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return the wall time in UTC epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""
        return time.monotonic()
