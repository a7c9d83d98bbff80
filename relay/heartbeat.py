"""Whether a loop is alive: it beats as it goes and says how long it may be silent."""

from relay.clock import Clock

SLACK_S = 45.0
"""Silence allowed beyond the announced one: for a busy machine, or a disk that needs 10 s for a
sync. One change may wait for two syncs and a checkpoint."""


class Heartbeat:
    """Liveness of one loop: it beats as it goes, and announces how long it may be silent."""

    def __init__(self, clock: Clock, slack_s: float = SLACK_S) -> None:
        self._clock = clock
        self._slack_s = slack_s
        self._until_s = clock.monotonic_s() + slack_s

    def beat(self, silence_s: float = 0.0) -> None:
        """Report progress, and promise the next beat within `silence_s` seconds plus the slack."""
        self._until_s = self._clock.monotonic_s() + silence_s + self._slack_s

    @property
    def is_alive(self) -> bool:
        """Whether the promised beat is not overdue."""
        return self._clock.monotonic_s() <= self._until_s
