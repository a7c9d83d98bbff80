"""Gives an app's pending events to its senders, a full batch at a time where it can.

One sender at a time looks at the front of the backlog. Less than a full batch waits for more
events, but no event longer than the linger, counted from its acceptance.
"""

import anyio

from relay.clock import Clock
from relay.delivery.batching import LearnedLimits
from relay.delivery.circuit_breaker import CircuitBreaker
from relay.delivery.ordering import OrderedScheduler
from relay.errors import StoreFull
from relay.outbox.claims import Claim, Claims, Waiting

READ_EVENTS = 1_000
"""Events read from disk at once."""

IDLE_S = 5.0
"""Longest wait without a look: a wake-up lost to a defect costs seconds, not events."""


class Dispatcher:
    """The backlog of one app, as its senders see it.

    Attributes:
        linger_s: The longest a lone event waits for others.
    """

    def __init__(
        self,
        claims: Claims,
        app: int,
        breaker: CircuitBreaker,
        limits: LearnedLimits,
        *,
        linger_s: float,
        clock: Clock,
    ) -> None:
        self._claims = claims
        self._app = app
        self._breaker = breaker
        self._limits = limits
        self.linger_s = linger_s
        self._clock = clock
        self._scheduler = OrderedScheduler()
        self._lock = anyio.Lock()
        self._has_unread = True
        self._missing = 1
        self._wakeup = anyio.Event()
        self._open_claims: dict[int, Claim] = {}

    @property
    def in_flight(self) -> int:
        """Events that senders have claimed."""
        return sum(claim.left for claim in self._open_claims.values())

    @property
    def has_others(self) -> bool:
        """Whether events wait that are neither in flight nor deferred."""
        return self._has_unread or self._scheduler.ready_count > 0

    async def oldest_accepted_at(self) -> int | None:
        """Return when the oldest pending event was accepted (epoch ms), None without any."""
        ages = [claim.events[0].accepted_at for claim in self._open_claims.values()]
        first_seq = self._scheduler.first_seq
        waiting_since = None
        if first_seq is not None:
            waiting_since = await self._claims.accepted_at(first_seq)
        elif self._has_unread:
            waiting_since = await self._claims.oldest_accepted_at(self._app, self._scheduler.cursor)
        return min([*ages, waiting_since] if waiting_since is not None else ages, default=None)

    def arrived(self, events: int) -> None:
        """Note that `events` more events of the app were committed."""
        self._has_unread = True
        self._missing -= events
        if self._missing <= 0:
            self._wakeup.set()

    def configure(self, linger_s: float) -> None:
        """Apply another linger, also to events that wait already."""
        self.linger_s = linger_s
        self._wakeup.set()

    async def next_batch(self) -> list[Waiting]:
        """Return the events of the next upload, once some may go; they are in flight then.

        May be cancelled while it waits; once it has marked events as in flight, it returns them.
        """
        async with self._lock:
            return await self._next_batch()

    async def claim(self, events: list[Waiting]) -> Claim:
        """Record that events in flight are about to be uploaded.

        Raises:
            StoreFull: If there is no room for the record; the events wait on.
        """
        try:
            claim = await self._claims.open(self._app, events, self._clock.now_ms())
        except StoreFull:
            self._scheduler.defer(events)
            self._scheduler.release(events)
            raise
        self._open_claims[claim.id] = claim
        return claim

    def finish(self, claim: Claim, events: list[Waiting]) -> None:
        """Release events of a claim whose settlement is on disk, and their ordering keys."""
        claim.left -= len(events)
        if claim.left <= 0:
            self._open_claims.pop(claim.id, None)
        else:
            settled = {event.seq for event in events}
            claim.events = [event for event in claim.events if event.seq not in settled]
        self._scheduler.release(events)
        self._wakeup.set()

    def defer(self, event: Waiting, names: frozenset[str], wait_s: float) -> None:
        """Defer an event in flight until its device or user is no longer on hold.

        Args:
            event: With its tries so far.
            names: What to hold, as `ordering.hold_names` returns it.
            wait_s: Seconds from now.
        """
        self._scheduler.defer([event])
        self._scheduler.hold(names, [event.ordering_key], self._clock.monotonic_s() + wait_s)

    async def _next_batch(self) -> list[Waiting]:
        while True:
            await self._breaker.wait_until_ready()
            limits, now_s = self._limits.current, self._clock.monotonic_s()
            self._wakeup = anyio.Event()
            await self._fill(limits.max_events)
            if not self._breaker.is_ready:
                continue  # it tripped during the read: claiming now would only age the events
            ready = self._scheduler.choose(limits, now_s)
            if self._has_unread and self._scheduler.wants(limits.max_events):
                continue  # some of what was read may not go: read on
            wait_s = self._linger_left_s(ready, now_s)
            if wait_s <= 0:
                self._scheduler.start(ready)
                return ready
            self._missing = max(1, limits.max_events - len(ready)) if ready else 1
            with anyio.move_on_after(wait_s):
                await self._wakeup.wait()
            # An idle look reads the disk again, in case an arrival was never announced.
            self._has_unread = self._has_unread or not ready

    def _linger_left_s(self, ready: list[Waiting], now_s: float) -> float:
        """Return how long `ready` may still wait for more events; 0 if it should go now."""
        if not ready:
            expiry_s = self._scheduler.next_expiry_s
            return IDLE_S if expiry_s is None else min(IDLE_S, max(expiry_s - now_s, 0.001))
        limits = self._limits.current
        size_bytes = sum(event.size_bytes for event in ready)
        is_full = not limits.admits(len(ready) + 1, size_bytes + ready[0].size_bytes)
        if is_full or self._scheduler.ready_count > len(ready):
            return 0.0
        waited_s = (self._clock.now_ms() - ready[0].accepted_at) / 1000
        return self.linger_s - waited_s if waited_s >= 0 else 0.0  # the clock was set back

    async def _fill(self, wanted: int) -> None:
        """Read until `wanted` events are ready, or until nothing is left to read."""
        scheduler = self._scheduler
        scheduler.expire_holds(self._clock.monotonic_s())
        while seqs := scheduler.resume(READ_EVENTS):
            try:
                scheduler.add_resumed(await self._claims.read_named(seqs))
            except BaseException:
                scheduler.undo_resume()
                raise
            if not scheduler.wants(wanted):
                break
        while self._has_unread and scheduler.wants(wanted):
            self._has_unread = False  # before the read: an arrival during it sets it again
            try:
                page = await self._claims.read_after(self._app, scheduler.cursor, READ_EVENTS)
            except BaseException:
                self._has_unread = True
                raise
            events, cursor = page
            self._has_unread = self._has_unread or cursor > scheduler.cursor
            scheduler.add(events, cursor)
