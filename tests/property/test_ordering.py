"""The ordered scheduler under any interleaving of its senders."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.delivery.batching import BatchLimits
from relay.delivery.ordering import OrderedScheduler, hold_names
from relay.outbox.claims import Waiting
from tests.support.outboxes import pending_event

DEVICES = st.sampled_from([None, "d1", "d2", "d3"])
USERS = st.sampled_from(["u1", "u2"])


@dataclass
class _Claim:
    """Events a sender has in flight, in order."""

    events: list[Waiting]


class OrderingMachine(RuleBasedStateMachine):
    """Model: every event is unread, waiting, in flight or gone; each key is a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = OrderedScheduler()
        self.now_s = 100.0
        self.disk: dict[int, Waiting] = {}
        self.unread: list[int] = []
        self.waiting: set[int] = set()
        self.claims: list[_Claim] = []
        self.held_until_s: dict[str, float] = {}

    # The model.

    def _in_flight(self) -> list[Waiting]:
        return [event for claim in self.claims for event in claim.events]

    def _is_held(self, event: Waiting) -> bool:
        return any(self.held_until_s.get(name, 0.0) > self.now_s for name in hold_names(event))

    def _of_key(self, key: str) -> list[int]:
        return sorted(seq for seq in self.waiting if self.disk[seq].ordering_key == key)

    def _may_go(self) -> list[int]:
        """Return what one claim could hold without limits, if everything were read."""
        busy = {event.ordering_key for event in self._in_flight()}
        free = []
        for key in {self.disk[seq].ordering_key for seq in self.waiting} - busy:
            for seq in self._of_key(key):
                if self._is_held(self.disk[seq]):
                    break
                free.append(seq)
        return sorted(free)

    # Rules.

    @rule(device=DEVICES, user=USERS, size=st.integers(1, 40))
    def accept(self, device: str | None, user: str, size: int) -> None:
        """An event is stored."""
        seq = len(self.disk) + 1
        self.disk[seq] = pending_event(seq, device, user, size)
        self.unread.append(seq)

    @rule(limit=st.integers(1, 8))
    def read(self, limit: int) -> None:
        """The dispatcher reads on."""
        page, self.unread = self.unread[:limit], self.unread[limit:]
        self.scheduler.add(
            [self.disk[seq] for seq in page], page[-1] if page else self.scheduler.cursor
        )
        self.waiting.update(page)

    @rule(limit=st.integers(1, 4), is_vanished=st.booleans())
    def resume(self, limit: int, *, is_vanished: bool) -> None:
        """The dispatcher reads deferred events back; one may have left the disk."""
        seqs = self.scheduler.resume(limit)
        assert len(seqs) <= limit
        assert set(seqs) <= self.waiting
        if is_vanished and seqs:
            self.waiting.remove(seqs.pop())
        self.scheduler.add_resumed([self.disk[seq] for seq in seqs])

    @rule(events=st.integers(1, 6), size=st.integers(10, 120), is_patient=st.booleans())
    def take(self, events: int, size: int, *, is_patient: bool) -> None:
        """A sender takes what may be sent, or looks and waits for more."""
        limits = BatchLimits(events, size, overhead_bytes=5)
        taken = self.scheduler.choose(limits, self.now_s)
        self._check(taken, limits)
        if is_patient:
            return
        self.scheduler.start(taken)
        self.waiting.difference_update(event.seq for event in taken)
        if taken:
            self.claims.append(_Claim(taken))

    def _check(self, taken: list[Waiting], limits: BatchLimits) -> None:
        """Whatever is chosen may go, in order, and fits."""
        seqs = [event.seq for event in taken]
        assert seqs == sorted(set(seqs))
        assert set(seqs) <= set(self._may_go())
        assert len(taken) <= 1 or limits.admits(len(taken), sum(e.size_bytes for e in taken))
        for key in {event.ordering_key for event in taken}:
            mine = [event.seq for event in taken if event.ordering_key == key]
            assert mine == self._of_key(key)[: len(mine)]

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Some events of a claim are settled."""
        claim = data.draw(st.sampled_from(self.claims))
        gone = data.draw(st.lists(st.sampled_from(claim.events), unique=True, min_size=1))
        self.scheduler.release(gone)
        self._drop(claim, gone)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """A claim could not be recorded: all of it waits again."""
        claim = data.draw(st.sampled_from(self.claims))
        self.scheduler.defer(claim.events)
        self.scheduler.release(claim.events)
        self.waiting.update(event.seq for event in claim.events)
        self.claims.remove(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), wait_s=st.integers(1, 5), is_user=st.booleans())
    def rest(self, data: st.DataObject, wait_s: int, *, is_user: bool) -> None:
        """Amplitude throttles the device or the user of an event in flight."""
        claim = data.draw(st.sampled_from(self.claims))
        event = data.draw(st.sampled_from(claim.events))
        device, user = hold_names(event)
        name = user if is_user or event.device_id is None else device
        self.scheduler.defer([event])
        self.scheduler.hold([name], [event.ordering_key], self.now_s + wait_s)
        self.scheduler.release([event])
        self.held_until_s[name] = max(self.held_until_s.get(name, 0.0), self.now_s + wait_s)
        self.waiting.add(event.seq)
        self._drop(claim, [event])

    @rule(seconds=st.sampled_from([0.5, 1.0, 6.0]))
    def pass_time(self, seconds: float) -> None:
        """Holds run out."""
        self.now_s += seconds
        self.scheduler.expire_holds(self.now_s)

    def _drop(self, claim: _Claim, events: list[Waiting]) -> None:
        claim.events = [event for event in claim.events if event not in events]
        if not claim.events:
            self.claims.remove(claim)

    # Invariants.

    @invariant()
    def knows_the_oldest(self) -> None:
        """The scheduler knows its oldest event, so it has lost none and invented none."""
        assert self.scheduler.first_seq == min(self.waiting, default=None)

    @invariant()
    def knows_the_next_expiry(self) -> None:
        """Every waiter looks again no later than the next hold ends."""
        running = [until_s for until_s in self.held_until_s.values() if until_s > self.now_s]
        look_s = self.scheduler.next_expiry_s
        assert not running or (look_s is not None and look_s <= min(running))

    def teardown(self) -> None:
        """Every waiting event is sent in the end, in order within its key."""
        for claim in list(self.claims):
            self.scheduler.release(claim.events)
        self.claims.clear()
        self.now_s += 1000
        self.scheduler.expire_holds(self.now_s)
        limits = BatchLimits(3, 1000, overhead_bytes=5)
        left = len(self.waiting) + len(self.unread)
        for _ in range(3 * left + 3):
            while seqs := self.scheduler.resume(2):
                self.scheduler.add_resumed([self.disk[seq] for seq in seqs])
            self.read(2)
            self.take(3, 1000, is_patient=False)
            for claim in list(self.claims):
                self.scheduler.release(claim.events)
            self.claims.clear()
        assert not self.waiting
        assert not self.scheduler.choose(limits, self.now_s)


TestOrdering = OrderingMachine.TestCase
TestOrdering.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
