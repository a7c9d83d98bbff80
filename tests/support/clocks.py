"""Clocks that tests move."""

from relay.clock import SystemClock

START_MS = 1_767_261_906_412


class FakeClock:
    """A clock that stands still until it is advanced."""

    def __init__(self, at_ms: int = START_MS) -> None:
        self._at_ms = at_ms
        self._at_s = 1000.0

    def now_ms(self) -> int:
        """Return the set wall time."""
        return self._at_ms

    def monotonic_s(self) -> float:
        """Return the set monotonic time."""
        return self._at_s

    def advance(self, seconds: float) -> None:
        """Let both times pass."""
        self._at_ms += round(seconds * 1000)
        self._at_s += seconds

    def set_wall(self, at_ms: int) -> None:
        """Correct the wall time, as a person or a time server does."""
        self._at_ms = at_ms


class LeapingClock(SystemClock):
    """The machine's clock, which a test can make leap ahead."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now_ms(self) -> int:
        """Return the wall time and what was leapt."""
        return super().now_ms() + round(self._ahead_s * 1000)

    def monotonic_s(self) -> float:
        """Return the monotonic time and what was leapt."""
        return super().monotonic_s() + self._ahead_s

    def leap(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead_s += seconds
