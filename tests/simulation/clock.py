"""The clocks of a simulated machine: one that runs steadily, one that people set."""

import asyncio

from tests.simulation.source import START_MS

BOOTED_S = 1000.0


class WallClock:
    """Time on a virtual loop; the wall time may be wrong, the monotonic one never is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ahead_ms = 0

    def now_ms(self) -> int:
        """Return the wall time as the machine believes it."""
        return START_MS + round(self._loop.time() * 1000) + self._ahead_ms

    def monotonic_s(self) -> float:
        """Return seconds since the machine was booted."""
        return BOOTED_S + self._loop.time()

    def elapsed_s(self) -> float:
        """Return the same: this machine is never suspended."""
        return self.monotonic_s()

    def set_ahead_ms(self, ahead_ms: int) -> None:
        """Set the wall time wrong by so much, or right with 0."""
        self._ahead_ms = ahead_ms
