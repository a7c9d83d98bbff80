"""Forgets a user everywhere: first the user is kept out, then every row is removed."""

from relay.clock import Clock
from relay.outbox.store import Outbox
from relay.segments.store import Segments

MAX_SWEEPS = 3
"""Sweeps of the outbox: an event that was being read meanwhile may have come in behind one."""


class UserErasure:
    """Forgets users of the configured apps."""

    def __init__(self, outbox: Outbox, segments: Segments, clock: Clock) -> None:
        self._outbox = outbox
        self._segments = segments
        self._clock = clock

    async def forget(self, app: str, external_id: str) -> None:
        """Remove a user from segments, directory, history, events and quarantine, for good.

        If it fails half way, the next call completes it.

        Raises:
            StoreError: If a disk fails or is full.
        """
        number = self._segments.cohorts.number(app)
        now_ms = self._clock.now_ms()
        await self._segments.erasure.keep_out(number, external_id, now_ms)
        await self._segments.erasure.remove(number, external_id, now_ms)
        in_outbox = self._outbox.counters.number(app)
        for _ in range(MAX_SWEEPS):
            if not await self._outbox.erasure.remove(in_outbox, external_id):
                break
