"""Forgets a user everywhere: first nothing of the user is let in any more, then all is removed."""

from relay.clock import Clock
from relay.outbox.store import Outbox
from relay.segments.store import Segments

MAX_SWEEPS = 3
"""An event that was being read when the door closed may still have come in behind a sweep."""


class UserErasure:
    """Forgets users of the configured apps."""

    def __init__(self, outbox: Outbox, segments: Segments, clock: Clock) -> None:
        self._outbox = outbox
        self._segments = segments
        self._clock = clock

    async def forget(self, app: str, external_id: str) -> None:
        """Remove a user from segments, directory, history, events and quarantine, for good.

        What was begun and broken off is completed by asking once more.

        Raises:
            StoreError: If a disk does not serve.
        """
        number = self._segments.cohorts.number(app)
        now_ms = self._clock.now_ms()
        await self._segments.erasure.refuse(number, external_id, now_ms)
        await self._segments.erasure.remove(number, external_id, now_ms)
        in_outbox = self._outbox.counters.number(app)
        for _ in range(MAX_SWEEPS):
            if not await self._outbox.erasure.remove(in_outbox, external_id):
                break
