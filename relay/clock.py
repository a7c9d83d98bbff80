"""Time as a dependency: the only module that reads a clock.

Wall time stamps what is stored (UTC epoch milliseconds, `int`); monotonic time
measures waits (seconds, `float`). Rules never call either: time is an argument.

The wall clock of a small server leaps: it has no battery and starts in 1970 or where it was
switched off, until a time server puts it right; a person or a virtual machine's host sets it
wrong. Whatever is measured in days is therefore held against the time that truly passed.
"""

import time
from typing import Final, Protocol

CLOCK_STEP_S: Final = 60.0
"""A smaller step of the wall clock is a correction, a larger one a leap."""

CLOCK_TRUST_S: Final = 6 * 3600.0
"""A clock that leapt is believed once it has gone on for so long; by then a time server or a
person has had the time to put it right."""

PLAUSIBLE_FROM_MS: Final = 1_735_689_600_000
"""2025-01-01: relay is younger, so an earlier clock is wrong, and its leap ahead puts it right."""


class Clock(Protocol):
    """Where services learn what time it is."""

    def now_ms(self) -> int:
        """Return the wall time in UTC epoch milliseconds."""

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""

    def elapsed_s(self) -> float:
        """Return the same, with the time that the machine was suspended."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return the wall time in UTC epoch milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""
        return time.monotonic()

    def elapsed_s(self) -> float:
        """Return the same, with the time that the machine was suspended.

        Source: clock_gettime(2): CLOCK_MONOTONIC stands still in a suspension, CLOCK_BOOTTIME
        does not.
        """
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockStepDetector:
    """Tells how long the wall clock has gone on without a leap."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s = clock.elapsed_s()
        self._ahead_s = clock.now_ms() / 1000 - self._since_s

    def is_trusted(self) -> bool:
        """Return whether the wall clock ran `CLOCK_TRUST_S` without a step; a start is one."""
        now_s = self._clock.elapsed_s()
        ahead_s = self._clock.now_ms() / 1000 - now_s
        if abs(ahead_s - self._ahead_s) > CLOCK_STEP_S:
            self._since_s, self._ahead_s = now_s, ahead_s
        return now_s - self._since_s >= CLOCK_TRUST_S


class SteadyClock:
    """A wall clock that follows a leap ahead only once it is believed; any other, at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_ms = clock.now_ms()
        self._at_s = clock.elapsed_s()
        self._leap: tuple[float, float] | None = None  # when it was noticed, and how far it went

    def is_behind(self) -> bool:
        """Return whether the wall clock is ahead of this one, and not believed."""
        self.now_ms()
        return self._leap is not None

    def now_ms(self) -> int:
        """Return the wall time, or what it would be without a leap that is not believed yet."""
        wall_ms, now_s = self._clock.now_ms(), self._clock.elapsed_s()
        sober_ms = self._at_ms + round((now_s - self._at_s) * 1000)
        leap_s = (wall_ms - sober_ms) / 1000
        if leap_s > CLOCK_STEP_S and sober_ms >= PLAUSIBLE_FROM_MS:
            if self._leap is None or abs(leap_s - self._leap[1]) > CLOCK_STEP_S:
                self._leap = (now_s, leap_s)
            if now_s - self._leap[0] < CLOCK_TRUST_S:
                return sober_ms
        self._at_ms, self._at_s, self._leap = wall_ms, now_s, None
        return wall_ms
