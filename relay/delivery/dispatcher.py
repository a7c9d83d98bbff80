"""Hands an app's pending events to its senders, a full upload at a time where it can.

One sender at a time looks at the front of the line. If there is less than a full upload, it
waits for company, but no event longer than the linger, counted from its acceptance.
"""

import anyio

from relay.clock import Clock
from relay.delivery.batching import LearnedLimits
from relay.delivery.gate import Gate
from relay.delivery.window import Window
from relay.errors import StoreFull
from relay.outbox.claims import Claim, Claims, Waiting

READ_EVENTS = 1_000
"""Events read from disk at once."""

IDLE_S = 5.0
"""Longest wait without a look: a wake-up lost to a defect costs seconds, not events."""


class Dispatcher:
    """The line of one app, seen by its senders.

    Attributes:
        linger_s: The longest a lone event waits for company.
    """

    def __init__(
        self,
        claims: Claims,
        app: int,
        gate: Gate,
        limits: LearnedLimits,
        *,
        linger_s: float,
        clock: Clock,
    ) -> None:
        self._claims = claims
        self._app = app
        self._gate = gate
        self._limits = limits
        self.linger_s = linger_s
        self._clock = clock
        self._window = Window()
        self._turn = anyio.Lock()
        self._has_unread = True
        self._awaited = 1
        self._wakeup = anyio.Event()
        self._in_hand: dict[int, Claim] = {}

    @property
    def in_flight(self) -> int:
        """Events in senders' hands."""
        return sum(claim.left for claim in self._in_hand.values())

    @property
    def has_others(self) -> bool:
        """Whether events wait that are in nobody's hands and not parked."""
        return self._has_unread or self._window.ready_count > 0

    async def oldest_accepted_at(self) -> int | None:
        """Return when the oldest pending event was accepted (epoch ms), None without any."""
        ages = [claim.events[0].accepted_at for claim in self._in_hand.values()]
        first_seq = self._window.first_seq
        if first_seq is None and self._has_unread:
            unread, _ = await self._claims.read_after(self._app, self._window.cursor, 1)
            first_seq = unread[0].seq if unread else None
        if first_seq is not None:
            waiting_since = await self._claims.read_accepted_at(first_seq)
            ages += [] if waiting_since is None else [waiting_since]
        return min(ages, default=None)

    def arrived(self, events: int) -> None:
        """Note that `events` more events of the app were committed."""
        self._has_unread = True
        self._awaited -= events
        if self._awaited <= 0:
            self._wakeup.set()

    def adjust(self, linger_s: float) -> None:
        """Go on with another linger, also for what waits already."""
        self.linger_s = linger_s
        self._wakeup.set()

    async def take(self) -> list[Waiting]:
        """Return the next upload's events, once some may go; they are in hand from now on.

        It may be cancelled while it waits; once it has taken something it returns.
        """
        async with self._turn:
            return await self._next_events()

    async def claim(self, events: list[Waiting]) -> Claim:
        """Record that events in hand are about to be uploaded.

        Raises:
            StoreFull: If it cannot be recorded now; the events wait on.
        """
        try:
            claim = await self._claims.open(self._app, events, self._clock.now_ms())
        except StoreFull:
            self._window.put_back(events)
            self._window.release(events)
            raise
        self._in_hand[claim.id] = claim
        return claim

    def finish(self, claim: Claim, events: list[Waiting]) -> None:
        """Let go of events that are settled, so that their lanes may go on."""
        claim.left -= len(events)
        if claim.left <= 0:
            self._in_hand.pop(claim.id, None)
        else:
            settled = {event.seq for event in events}
            claim.events = [event for event in claim.events if event.seq not in settled]
        self._window.release(events)
        self._wakeup.set()

    def rest(self, event: Waiting, names: frozenset[str], wait_s: float) -> None:
        """Put an event in hand back until its device or user has rested.

        Args:
            event: With what is known of its tries.
            names: Who rests, named as in the window.
            wait_s: Seconds from now.
        """
        self._window.put_back([event])
        self._window.hold(names, [event.lane], self._clock.monotonic_s() + wait_s)

    async def _next_events(self) -> list[Waiting]:
        while True:
            await self._gate.open()
            limits, now_s = self._limits.current, self._clock.monotonic_s()
            self._wakeup = anyio.Event()
            await self._fill(limits.max_events)
            if not self._gate.is_open:
                continue  # it closed while the disk was read: nothing is taken in hand
            ready = self._window.choose(limits, now_s)
            if self._has_unread and self._window.wants(limits.max_events):
                continue  # some of what was read may not go: read on
            wait_s = self._company_s(ready, now_s)
            if wait_s <= 0:
                self._window.take(ready)
                return ready
            self._awaited = max(1, limits.max_events - len(ready)) if ready else 1
            with anyio.move_on_after(wait_s):
                await self._wakeup.wait()
            self._has_unread = self._has_unread or not ready

    def _company_s(self, ready: list[Waiting], now_s: float) -> float:
        """Return how long `ready` may still wait for company; 0 if it should go now."""
        if not ready:
            expiry_s = self._window.next_expiry_s
            return IDLE_S if expiry_s is None else min(IDLE_S, max(expiry_s - now_s, 0.001))
        limits = self._limits.current
        size_bytes = sum(event.size_bytes for event in ready)
        is_full = not limits.admits(len(ready) + 1, size_bytes + ready[0].size_bytes)
        if is_full or self._window.ready_count > len(ready):
            return 0.0
        waited_s = (self._clock.now_ms() - ready[0].accepted_at) / 1000
        return self.linger_s - waited_s if waited_s >= 0 else 0.0  # the clock was set back

    async def _fill(self, wanted: int) -> None:
        """Have up to `wanted` events ready, if there are so many."""
        window = self._window
        window.expire_holds(self._clock.monotonic_s())
        while seqs := window.revive(READ_EVENTS):
            try:
                window.add_revived(await self._claims.read_named(seqs))
            except BaseException:
                window.park_again()
                raise
            if not window.wants(wanted):
                break
        while self._has_unread and window.wants(wanted):
            self._has_unread = False  # before the read: what arrives meanwhile sets it again
            try:
                page = await self._claims.read_after(self._app, window.cursor, READ_EVENTS)
            except BaseException:
                self._has_unread = True
                raise
            events, cursor = page
            self._has_unread = self._has_unread or cursor > window.cursor
            window.add(events, cursor)
