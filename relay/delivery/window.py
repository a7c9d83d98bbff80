"""Which events of an app may go next. Pure: time and events come in, decisions go out.

Events wait in order of acceptance. The order that must hold is that of a *lane*: the events
of one device (or of one user, without a device). So a lane has at most one sender at a time,
and a lane whose device or user is on hold waits while all others go on.

An event is in exactly one place: unread (on disk only), `ready` (sorted), parked under its
lane (as a bare number, so that a lane with a great many events costs little), or in hand.
A parked lane that may go again is read back in pieces, oldest first.
"""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush, merge

from relay.delivery.batching import BatchLimits
from relay.outbox.claims import Waiting

MAX_PARKED = 500_000
"""Parked numbers past which nothing more is read ahead, so that memory stays flat."""


def holds_of(event: Waiting) -> tuple[str, str]:
    """Return the names under which an event's device and user may be on hold."""
    return f"d:{event.device_id}", f"u:{event.user_id}"


@dataclass(slots=True)
class _Hold:
    """A pause of one device or user.

    Attributes:
        until_s: Monotonic seconds.
        lanes: Lanes parked because of it.
    """

    until_s: float
    lanes: dict[str, None] = field(default_factory=dict)


class Window:
    """The front of an app's line, in memory.

    Attributes:
        cursor: The last sequence number read from disk in order.
    """

    def __init__(self) -> None:
        self.cursor = 0
        self._ready: deque[Waiting] = deque()
        self._parked: dict[str, list[int]] = {}
        self._parked_count = 0
        self._in_hand: dict[str, int] = {}
        self._holds: dict[str, _Hold] = {}
        self._expiries: list[tuple[float, str]] = []
        self._held_lanes: dict[str, int] = {}
        self._revivable: dict[str, None] = {}
        self._reviving: list[tuple[str, int]] = []

    @property
    def ready_count(self) -> int:
        """Events that are read and not parked."""
        return len(self._ready)

    # Reading.

    def wants(self, events: int) -> bool:
        """Return whether more must be read to have `events` of them ready."""
        return len(self._ready) < events and self._parked_count < MAX_PARKED

    def add(self, events: Iterable[Waiting], cursor: int) -> None:
        """Take in events read in order, up to sequence number `cursor`."""
        self.cursor = cursor
        for event in events:
            if event.lane in self._parked:
                self._park(event)
            else:
                self._ready.append(event)

    def revive(self, limit: int) -> list[int]:
        """Return up to `limit` parked sequence numbers whose lane may go again.

        The caller reads them and gives their events to `add_revived` before anything else,
        or calls `park_again` if it could not.
        """
        seqs: list[int] = []
        while self._revivable and len(seqs) < limit:
            lane = next(iter(self._revivable))
            parked = self._parked[lane]
            while parked and len(seqs) < limit:
                seqs.append(heappop(parked))
                self._reviving.append((lane, seqs[-1]))
            if not parked:
                del self._parked[lane]
                del self._revivable[lane]
        self._parked_count -= len(seqs)
        return seqs

    def add_revived(self, events: Iterable[Waiting]) -> None:
        """Put events read back by number where their age belongs."""
        self._reviving.clear()
        self._ready = deque(merge(sorted(events), self._ready))

    def park_again(self) -> None:
        """Undo the last `revive`: its events could not be read."""
        for lane, seq in self._reviving:
            heappush(self._parked.setdefault(lane, []), seq)
            self._revivable[lane] = None
        self._parked_count += len(self._reviving)
        self._reviving.clear()

    # Choosing.

    def choose(self, limits: BatchLimits, now_s: float) -> list[Waiting]:
        """Return the next upload's events, in order: at least one if any may go.

        They stay ready, at the front; events before them that may not go are parked.
        """
        chosen: list[Waiting] = []
        body_bytes = 0
        while self._ready:
            event = self._ready[0]
            if self._may_go(event, now_s):
                body_bytes += event.size_bytes
                if chosen and not limits.admits(len(chosen) + 1, body_bytes):
                    break
                chosen.append(event)
            else:
                self._park(event)
            self._ready.popleft()
        self._ready.extendleft(reversed(chosen))
        return chosen

    def take(self, chosen: Collection[Waiting]) -> None:
        """Take in hand what `choose` has just returned; its lanes are busy from now on."""
        in_hand = self._in_hand
        for event in chosen:
            self._ready.popleft()
            in_hand[event.lane] = in_hand.get(event.lane, 0) + 1
            self._revivable.pop(event.lane, None)

    def _may_go(self, event: Waiting, now_s: float) -> bool:
        lane = event.lane
        if self._holds and self._is_on_hold(event, now_s):
            return False
        parked = self._parked.get(lane)
        return lane not in self._in_hand and not (parked and parked[0] < event.seq)

    def _is_on_hold(self, event: Waiting, now_s: float) -> bool:
        for name in holds_of(event):
            hold = self._holds.get(name)
            if hold and hold.until_s > now_s:
                self._tie(event.lane, hold)
                self._revivable.pop(event.lane, None)
                return True
        return False

    def _park(self, event: Waiting) -> None:
        lane = event.lane
        heappush(self._parked.setdefault(lane, []), event.seq)
        self._parked_count += 1

    # Coming back.

    def release(self, events: Iterable[Waiting]) -> None:
        """Let go of events in hand: they are settled, or parked by `put_back` before."""
        for event in events:
            lane = event.lane
            left = self._in_hand.pop(lane) - 1
            if left:
                self._in_hand[lane] = left
            elif lane in self._parked and lane not in self._held_lanes:
                self._revivable[lane] = None

    def put_back(self, events: Iterable[Waiting]) -> None:
        """Park events that are in hand and must go again later."""
        for event in events:
            self._park(event)

    def hold(self, names: Collection[str], lanes: Collection[str], until_s: float) -> None:
        """Let devices and users rest until `until_s`, and remember whose lanes wait for it.

        Args:
            names: As `holds_of` gives them.
            lanes: Lanes of events that were put back.
            until_s: Monotonic seconds; the latest of several holds counts.
        """
        for name in names:
            hold = self._holds.get(name)
            if hold is None:
                hold = self._holds[name] = _Hold(until_s)
                heappush(self._expiries, (until_s, name))
            hold.until_s = max(hold.until_s, until_s)
            for lane in lanes:
                self._tie(lane, hold)

    def _tie(self, lane: str, hold: _Hold) -> None:
        """Have a lane wait for a hold."""
        if lane not in hold.lanes:
            hold.lanes[lane] = None
            self._held_lanes[lane] = self._held_lanes.get(lane, 0) + 1

    def expire_holds(self, now_s: float) -> None:
        """Let lanes go again whose holds are over."""
        while self._expiries and self._expiries[0][0] <= now_s:
            _, name = heappop(self._expiries)
            if self._holds[name].until_s > now_s:  # it was made longer meanwhile
                heappush(self._expiries, (self._holds[name].until_s, name))
                continue
            for lane in self._holds.pop(name).lanes:
                self._untie(lane)

    def _untie(self, lane: str) -> None:
        left = self._held_lanes.pop(lane) - 1
        if left:
            self._held_lanes[lane] = left
        elif lane in self._parked and lane not in self._in_hand:
            self._revivable[lane] = None

    @property
    def next_expiry_s(self) -> float | None:
        """When to look at the holds again (monotonic seconds), None without holds."""
        return self._expiries[0][0] if self._expiries else None

    @property
    def first_seq(self) -> int | None:
        """The oldest event in memory that is not in hand."""
        firsts = [parked[0] for parked in self._parked.values()]
        if self._ready:
            firsts.append(self._ready[0].seq)
        return min(firsts, default=None)
