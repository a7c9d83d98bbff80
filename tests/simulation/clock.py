"""The clocks of a simulated machine: one that runs steadily, one that operators set."""

import asyncio

from tests.simulation.source import START_MS

BOOTED_S = 1000.0


class WallClock:
    """Time on a virtual loop; wall time may be wrong, monotonic time never is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ahead_ms = 0

    def now_ms(self) -> int:
        """Return the machine's wall time."""
        return START_MS + round(self._loop.time() * 1000) + self._ahead_ms

    def monotonic_s(self) -> float:
        """Return seconds since the machine booted."""
        return BOOTED_S + self._loop.time()

    def elapsed_s(self) -> float:
        """Return the same: this machine is never suspended."""
        return self.monotonic_s()

    def set_ahead_ms(self, ahead_ms: int) -> None:
        """Set the wall clock ahead by this much; 0 corrects it."""
        self._ahead_ms = ahead_ms
