"""Clocks that tests control."""

from relay.clock import SystemClock

START_MS = 1_767_261_906_412


class FakeClock:
    """A clock that stands still until it is advanced."""

    def __init__(self, at_ms: int = START_MS) -> None:
        self._at_ms = at_ms
        self._at_s = 1000.0
        self._suspended_s = 0.0

    def now_ms(self) -> int:
        """Return the set wall time."""
        return self._at_ms

    def monotonic_s(self) -> float:
        """Return the set monotonic time."""
        return self._at_s

    def elapsed_s(self) -> float:
        """Return the same, with suspensions."""
        return self._at_s + self._suspended_s

    def advance(self, seconds: float) -> None:
        """Let all times pass."""
        self._at_ms += round(seconds * 1000)
        self._at_s += seconds

    def suspend(self, seconds: float) -> None:
        """Let time pass while the machine is suspended."""
        self._at_ms += round(seconds * 1000)
        self._suspended_s += seconds

    def set_wall(self, at_ms: int) -> None:
        """Step the wall clock, as an operator or a time server does."""
        self._at_ms = at_ms


class AdjustableClock(SystemClock):
    """The machine's clock, shifted by the test."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._suspended_s = 0.0
        self._wrong_s = 0.0

    def now_ms(self) -> int:
        """Return the shifted wall time."""
        offset_s = self._ahead_s + self._suspended_s + self._wrong_s
        return super().now_ms() + round(offset_s * 1000)

    def monotonic_s(self) -> float:
        """Return the shifted monotonic time."""
        return super().monotonic_s() + self._ahead_s

    def elapsed_s(self) -> float:
        """Return the same, with suspensions."""
        return super().elapsed_s() + self._ahead_s + self._suspended_s

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead_s += seconds

    def suspend(self, seconds: float) -> None:
        """Let time pass while the machine is suspended."""
        self._suspended_s += seconds

    def step_wall_clock(self, seconds: float) -> None:
        """Set the wall clock off by this much, and nothing else; 0 corrects it."""
        self._wrong_s = seconds
