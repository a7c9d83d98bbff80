"""Which events of an app may go next. Pure: time and events are arguments.

Events go in the order of acceptance, and the order within an *ordering key* must hold: the
events of one device, or of one user where there is no device. So an ordering key is in flight
with one sender at a time, and one whose device or user is on hold waits while all others go.

An event is in exactly one place: unread (on disk only), ready (sorted), deferred under its
ordering key (as a bare sequence number, so that a long backlog of one key stays small), or in
flight. Deferred events that may go again are read back in pages, oldest first.
"""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush, merge

from relay.delivery.batching import BatchLimits
from relay.outbox.claims import Waiting

MAX_DEFERRED = 500_000
"""Deferred events beyond which nothing more is read ahead, so that memory stays flat."""


def hold_names(event: Waiting) -> tuple[str, str]:
    """Return the names under which the event's device and user may be on hold."""
    return f"d:{event.device_id}", f"u:{event.user_id}"


@dataclass(slots=True)
class _Hold:
    """A pause of one device or user.

    Attributes:
        until_s: Monotonic seconds.
        keys: Ordering keys that wait for it; a dict for its order.
    """

    until_s: float
    keys: dict[str, None] = field(default_factory=dict)


class OrderedScheduler:
    """The front of an app's backlog, in memory.

    Attributes:
        cursor: The last sequence number read from disk in order.
    """

    def __init__(self) -> None:
        self.cursor = 0
        self._ready: deque[Waiting] = deque()
        self._deferred: dict[str, list[int]] = {}  # heaps, by ordering key
        self._deferred_count = 0
        self._in_flight: dict[str, int] = {}
        self._holds: dict[str, _Hold] = {}
        self._expiries: list[tuple[float, str]] = []
        self._holds_of_key: dict[str, int] = {}
        self._resumable: dict[str, None] = {}
        self._resuming: list[tuple[str, int]] = []

    @property
    def ready_count(self) -> int:
        """Events that are read and not deferred."""
        return len(self._ready)

    @property
    def next_expiry_s(self) -> float | None:
        """When the first hold may end (monotonic seconds), None without holds."""
        return self._expiries[0][0] if self._expiries else None

    @property
    def first_seq(self) -> int | None:
        """The oldest event in memory that is not in flight."""
        firsts = [deferred[0] for deferred in self._deferred.values()]
        if self._ready:
            firsts.append(self._ready[0].seq)
        return min(firsts, default=None)

    # Reading.

    def wants(self, events: int) -> bool:
        """Return whether more must be read to have `events` of them ready."""
        return len(self._ready) < events and self._deferred_count < MAX_DEFERRED

    def add(self, events: Iterable[Waiting], cursor: int) -> None:
        """Add events read in order, up to sequence number `cursor`."""
        self.cursor = cursor
        for event in events:
            if event.ordering_key in self._deferred:
                self._defer(event)
            else:
                self._ready.append(event)

    def resume(self, limit: int) -> list[int]:
        """Return up to `limit` deferred sequence numbers whose ordering key may go again.

        The caller reads them and passes the events to `add_resumed` before anything else, or
        calls `undo_resume` if the read failed.
        """
        seqs: list[int] = []
        while self._resumable and len(seqs) < limit:
            key = next(iter(self._resumable))
            deferred = self._deferred[key]
            while deferred and len(seqs) < limit:
                seqs.append(heappop(deferred))
                self._resuming.append((key, seqs[-1]))
            if not deferred:
                del self._deferred[key]
                del self._resumable[key]
        self._deferred_count -= len(seqs)
        return seqs

    def add_resumed(self, events: Iterable[Waiting]) -> None:
        """Insert events that were read back where their age belongs."""
        self._resuming.clear()
        self._ready = deque(merge(sorted(events), self._ready))

    def undo_resume(self) -> None:
        """Defer the events of the last `resume` again."""
        for key, seq in self._resuming:
            heappush(self._deferred.setdefault(key, []), seq)
            self._resumable[key] = None
        self._deferred_count += len(self._resuming)
        self._resuming.clear()

    # Choosing.

    def choose(self, limits: BatchLimits, now_s: float) -> list[Waiting]:
        """Return the next upload's events, in order: at least one if any may go.

        They stay ready, at the front; events before them that may not go are deferred.
        """
        chosen: list[Waiting] = []
        body_bytes = 0
        while self._ready:
            event = self._ready[0]
            if self._may_go(event, now_s):
                body_bytes += event.size_bytes
                # An event larger than the limits goes alone: Amplitude decides, not relay.
                if chosen and not limits.admits(len(chosen) + 1, body_bytes):
                    break
                chosen.append(event)
            else:
                self._defer(event)
            self._ready.popleft()
        self._ready.extendleft(reversed(chosen))
        return chosen

    def start(self, chosen: Collection[Waiting]) -> None:
        """Mark as in flight what `choose` has just returned, and block its ordering keys."""
        in_flight = self._in_flight
        for event in chosen:
            self._ready.popleft()
            in_flight[event.ordering_key] = in_flight.get(event.ordering_key, 0) + 1
            self._resumable.pop(event.ordering_key, None)

    def _may_go(self, event: Waiting, now_s: float) -> bool:
        key = event.ordering_key
        if self._holds and self._is_on_hold(event, now_s):
            return False
        deferred = self._deferred.get(key)
        return key not in self._in_flight and not (deferred and deferred[0] < event.seq)

    def _is_on_hold(self, event: Waiting, now_s: float) -> bool:
        for name in hold_names(event):
            hold = self._holds.get(name)
            if hold and hold.until_s > now_s:
                self._block(event.ordering_key, hold)
                # Or the key would be read back and deferred again in an endless loop.
                self._resumable.pop(event.ordering_key, None)
                return True
        return False

    def _defer(self, event: Waiting) -> None:
        heappush(self._deferred.setdefault(event.ordering_key, []), event.seq)
        self._deferred_count += 1

    # Coming back.

    def release(self, events: Iterable[Waiting]) -> None:
        """End the flight of events that are settled, or that `defer` was called for before."""
        for event in events:
            key = event.ordering_key
            left = self._in_flight.pop(key) - 1
            if left:
                self._in_flight[key] = left
            elif key in self._deferred and key not in self._holds_of_key:
                self._resumable[key] = None

    def defer(self, events: Iterable[Waiting]) -> None:
        """Defer events in flight that must go again later; `release` them afterwards."""
        for event in events:
            self._defer(event)

    def hold(self, names: Collection[str], keys: Collection[str], until_s: float) -> None:
        """Put devices and users on hold, and block the ordering keys that wait for them.

        Args:
            names: As `hold_names` returns them.
            keys: Ordering keys of deferred events.
            until_s: Monotonic seconds; a second hold of a name may extend it, never shorten it.
        """
        for name in names:
            hold = self._holds.get(name)
            if hold is None:
                hold = self._holds[name] = _Hold(until_s)
                heappush(self._expiries, (until_s, name))
            hold.until_s = max(hold.until_s, until_s)
            for key in keys:
                self._block(key, hold)

    def expire_holds(self, now_s: float) -> None:
        """End the holds whose time is over and let their ordering keys go again."""
        while self._expiries and self._expiries[0][0] <= now_s:
            _, name = heappop(self._expiries)
            if self._holds[name].until_s > now_s:  # extended since this entry was pushed
                heappush(self._expiries, (self._holds[name].until_s, name))
                continue
            for key in self._holds.pop(name).keys:
                self._unblock(key)

    def _block(self, key: str, hold: _Hold) -> None:
        if key not in hold.keys:
            hold.keys[key] = None
            self._holds_of_key[key] = self._holds_of_key.get(key, 0) + 1

    def _unblock(self, key: str) -> None:
        left = self._holds_of_key.pop(key) - 1
        if left:
            self._holds_of_key[key] = left
        elif key in self._deferred and key not in self._in_flight:
            self._resumable[key] = None
