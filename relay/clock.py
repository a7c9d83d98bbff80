"""Time as a dependency: the only module that reads a clock.

Wall time stamps what is stored (UTC epoch milliseconds, `int`); monotonic time measures waits
(seconds, `float`). Pure rules call neither: time is an argument.

The wall clock of a small server steps: without a battery it starts in 1970, or at the moment of
the last shutdown, until a time server corrects it; an operator or the host of a virtual machine
sets it wrong. Anything measured in days is therefore checked against the time that truly passed:
wall time is trusted after 6 hours without a step.
"""

import time
from typing import Final, Protocol

DAY_MS: Final = 86_400_000

CLOCK_STEP_S: Final = 60.0
"""A smaller change of the wall clock is a correction, a larger one a step."""

CLOCK_TRUST_S: Final = 6 * 3600.0
"""A clock without a step for this long is trusted: by then a time server or an operator has had
the time to correct it."""

PLAUSIBLE_FROM_MS: Final = 1_735_689_600_000
"""2025-01-01. relay is younger: an earlier clock is wrong, and a step ahead corrects it."""


class Clock(Protocol):
    """The time, as services ask for it."""

    def now_ms(self) -> int:
        """Return the wall time in UTC epoch milliseconds."""

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""

    def elapsed_s(self) -> float:
        """Return the same, including time in which the machine was suspended."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return the wall time in UTC epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""
        return time.monotonic()

    def elapsed_s(self) -> float:
        """Return the same, including time in which the machine was suspended.

        Source: clock_gettime(2): CLOCK_MONOTONIC stands still in a suspension, CLOCK_BOOTTIME
        does not.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """A wall clock that notices steps, and follows one ahead only once it is trusted.

    A step is noticed at the next call; ask at least every few minutes.

    Attributes:
        stepped_ms: Sum of all steps noticed so far, steps back counting negative.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_ms = clock.now_ms()
        self._at_s = self._stepped_at_s = clock.elapsed_s()
        self._ahead_ms = 0
        self.stepped_ms = 0

    def wall_ms(self) -> int:
        """Return the wall time as it is, after noticing any step."""
        wall_ms, now_s = self._clock.now_ms(), self._clock.elapsed_s()
        step_ms = wall_ms - self._wall_ms - round((now_s - self._at_s) * 1000)
        if abs(step_ms) > CLOCK_STEP_S * 1000:
            self._stepped_at_s = now_s
            self._ahead_ms += step_ms
            self.stepped_ms += step_ms
        self._wall_ms, self._at_s = wall_ms, now_s
        return wall_ms

    def is_trusted(self) -> bool:
        """Return whether the wall clock ran `CLOCK_TRUST_S` without a step; a start is one."""
        self.wall_ms()
        return self._at_s - self._stepped_at_s >= CLOCK_TRUST_S

    def now_ms(self) -> int:
        """Return the wall time, without a step ahead that is not trusted yet."""
        wall_ms = self.wall_ms()
        # A step back is followed at once: time that seems not to have passed only delays things,
        # while time that never passed would expire or outdate them.
        is_back = self._ahead_ms <= CLOCK_STEP_S * 1000
        was_wrong = wall_ms - self._ahead_ms < PLAUSIBLE_FROM_MS
        if is_back or was_wrong or self._at_s - self._stepped_at_s >= CLOCK_TRUST_S:
            self._ahead_ms = 0
        return wall_ms - self._ahead_ms

    def is_behind(self) -> bool:
        """Return whether the wall clock is ahead of this one and not trusted."""
        return self.now_ms() < self._wall_ms
