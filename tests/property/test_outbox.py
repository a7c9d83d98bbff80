"""The real outbox under any sequence of operations, crashes included."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from relay.clock import DAY_MS
from relay.outbox.claims import Claim, DeadLettered, Settlement, Waiting
from relay.outbox.selection import Selection
from relay.outbox.spans import decode_spans, encode_spans
from relay.outbox.writer import AppendResult
from tests.support.clocks import START_MS
from tests.support.disks import crash_copy
from tests.support.held_open import HeldOpen
from tests.support.outboxes import (
    OTHER,
    append,
    census,
    counts,
    mapped,
    running_outbox,
    waiting,
)

Result = TypeVar("Result")

ids = st.lists(st.sampled_from([f"e{number}" for number in range(12)]), min_size=1, max_size=6)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


class OutboxMachine(RuleBasedStateMachine):
    """Model: each accepted id is pending, delivered, dead or discarded."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp(prefix="relay-"))
        self.daemon = 0
        self.pending: list[str] = []
        self.delivered: set[str] = set()
        self.dead: list[str] = []
        self.discarded: set[str] = set()
        self.duplicates = 0
        self.tried: set[str] = set()
        self.claims: list[tuple[Claim, dict[int, str]]] = []

    def _do(self, work: Coroutine[object, object, Result]) -> Result:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        """A relay starts."""
        self.folder = self.root / "0"
        self.open = HeldOpen(running_outbox(self.folder))
        self.outbox = self._do(self.open.enter())

    @property
    def known(self) -> set[str]:
        """Every id ever accepted."""
        return {*self.pending, *self.delivered, *self.dead, *self.discarded}

    # Rules.

    @rule(batch=ids)
    def append(self, batch: list[str]) -> None:
        """OneSignal sends events, some of them again."""
        new = [name for name in dict.fromkeys(batch) if name not in self.known]
        taken = self._do(append(self.outbox, *batch))
        assert taken == AppendResult(len(new), len(batch) - len(new))
        self.pending += new
        self.duplicates += len(batch) - len(new)

    @rule(batch=ids)
    def append_to_another_app(self, batch: list[str]) -> None:
        """Another app's events with the same ids change nothing here."""
        self._do(append(self.outbox, *batch, app=OTHER))

    async def _names(self, events: list[Waiting]) -> dict[int, str]:
        named = {}
        for event in events:
            body = await self.outbox.claims.read_bodies([event.seq])
            assert body is not None
            named[event.seq] = body.split(b'"insert_id":"')[1].split(b'"')[0].decode()
        return named

    async def _free(self) -> list[Waiting]:
        """Return what is pending and unclaimed, as a dispatcher knows it."""
        in_hand = {seq for _, named in self.claims for seq in named}
        found = {seq: event for event in await waiting(self.outbox) if (seq := event.seq)}
        pending = census(self.folder).pending
        named = await self._names(list(found.values()))
        return [
            event
            for seq, event in sorted(found.items())
            if seq not in in_hand and named[seq] in pending
        ]

    async def _claim(self, limit: int) -> None:
        events = (await self._free())[:limit]
        if events:
            claim = await self.outbox.claims.open(1, events, START_MS)
            self.claims.append((claim, await self._names(events)))

    @rule(limit=st.integers(1, 6), fate=st.sampled_from(["delivered", "dead", "held"]))
    def deliver(self, limit: int, fate: str) -> None:
        """A sender claims events and learns one outcome for all of them."""
        before = len(self.claims)
        self._do(self._claim(limit))
        if len(self.claims) > before:
            claim, named = self.claims[-1]
            self._settle(claim, named, dict.fromkeys(named, fate))

    @rule(limit=st.integers(1, 6))
    def claim(self, limit: int) -> None:
        """A sender claims events."""
        self._do(self._claim(limit))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A sender learns the outcome of some of them."""
        claim, named = data.draw(st.sampled_from(self.claims))
        fates = st.sampled_from(["delivered", "dead", "held", "open"])
        self._settle(claim, named, {seq: data.draw(fates) for seq in named})

    def _settle(self, claim: Claim, named: dict[int, str], drawn: dict[int, str]) -> None:
        of = {event.seq: event for event in claim.events}
        by = {fate: [of[s] for s, f in drawn.items() if f == fate] for fate in drawn.values()}
        tried = [
            event._replace(first_tried_at=START_MS, attempts=1) for event in by.get("held", [])
        ]
        settlement = Settlement(
            delivered=by.get("delivered", []),
            dead=[DeadLettered(event, "rejected", "400 No") for event in by.get("dead", [])],
            released=tried,
        )
        self._do(self.outbox.claims.settle(claim, settlement, START_MS))
        for seq, fate in drawn.items():
            name = named[seq]
            if fate == "open":
                continue
            del named[seq]
            claim.left -= 1
            if fate == "held":
                self.tried.add(name)
                continue
            self.pending.remove(name)
            if fate == "delivered":
                self.delivered.add(name)
            else:
                self.dead.append(name)
        if not named:
            self.claims = [pair for pair in self.claims if pair[0] is not claim]

    @rule()
    def retry(self) -> None:
        """An operator retries the dead letters."""
        retried = census(self.folder).dead
        assert self._do(self.outbox.dead_letters.retry(Selection())) == len(self.dead)
        self.pending += retried
        self.tried -= set(retried)
        self.dead.clear()

    @rule()
    def discard(self) -> None:
        """An operator discards the dead letters."""
        assert self._do(self.outbox.dead_letters.discard(Selection(app=1))) == len(self.dead)
        self.discarded |= set(self.dead)
        self.dead.clear()

    @rule()
    def flush_keys(self) -> None:
        """Dedup keys are flushed to disk."""
        self._do(self.outbox.retention.flush())

    @rule()
    def prune(self) -> None:
        """Delivered rows are pruned; nothing else is past its retention."""
        while self._do(self.outbox.retention.prune()):
            pass
        assert not self._do(self.outbox.retention.expire(START_MS // DAY_MS + 31))

    @rule(is_crash=st.booleans())
    def start_again(self, *, is_crash: bool) -> None:
        """The process ends, in order or not, and another begins."""
        self.daemon += 1
        folder = self.folder
        if is_crash:
            folder = crash_copy(self.folder, self.root / str(self.daemon))
        self._do(self.open.leave())
        self.folder, self.open = folder, HeldOpen(running_outbox(folder))
        self.outbox = self._do(self.open.enter())
        self.tried |= {name for _, named in self.claims for name in named.values()}
        self.claims.clear()

    # Invariants.

    @invariant()
    def every_event_is_where_it_belongs(self) -> None:
        """Nothing accepted is lost, duplicated or out of order; the counts equal the rows."""
        found = census(self.folder)
        assert found.pending == self.pending
        assert sorted(found.dead) == sorted(self.dead)
        assert set(found.delivered) <= self.delivered
        mine = self._do(counts(self.outbox))
        assert (mine.accepted, mine.pending) == (len(self.known), len(self.pending))
        assert (mine.delivered, mine.dead) == (len(self.delivered), len(self.dead))
        assert (mine.discarded, mine.duplicate) == (len(self.discarded), self.duplicates)
        theirs = self._do(counts(self.outbox, OTHER))
        assert self.outbox.counters.pending == mine.pending + theirs.pending

    @invariant()
    def pending_events_are_read_in_order_with_their_attempts(self) -> None:
        """A sender reads pending events in order, with their attempts."""
        if self.claims:
            return
        events = self._do(self._free())
        named = self._do(self._names(events))
        assert [named[event.seq] for event in events] == self.pending
        tried = {named[event.seq] for event in events if event.attempts}
        assert tried == self.tried & set(self.pending)

    def teardown(self) -> None:
        """Everything accepted is deduplicated, also after one more crash."""
        if hasattr(self, "open"):
            everything = sorted(self.known)
            assert self._do(append(self.outbox, *everything)) == AppendResult(0, len(everything))
            self.start_again(is_crash=True)
            assert self._do(append(self.outbox, *everything)) == AppendResult(0, len(everything))
            self._do(self.open.leave())
        self.runner.close()
        shutil.rmtree(self.root)


SETTINGS = settings(
    stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


class LongerOutboxMachine(OutboxMachine):
    """The same, for as many sequences as fit into a minute."""


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(SETTINGS, max_examples=20)
TestOutboxLonger = pytest.mark.slow(LongerOutboxMachine.TestCase)
TestOutboxLonger.settings = settings(SETTINGS, max_examples=150)


@given(st.sets(st.integers(1, 200)))
def test_spans_cover_exactly_their_numbers(seqs: set[int]) -> None:
    """Any set of sequence numbers round-trips, in order."""
    text = encode_spans(seqs)
    assert list(decode_spans(text)) == sorted(seqs)
    assert text.count("],[") == sum(seq - 1 not in seqs for seq in seqs) - bool(seqs)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(texts, texts, texts), max_size=8, unique_by=lambda row: row[0]))
def test_any_ids_are_stored_and_read_back_whole(rows: list[tuple[str, str, str]]) -> None:
    """Ids are arbitrary text: they round-trip exactly and are deduplicated."""

    async def check() -> None:
        async with running_outbox(Path(folder)) as outbox:
            events = [mapped(name, device_id=device, user_id=user) for name, device, user in rows]
            assert await append(outbox, *events) == AppendResult(len(rows), 0)
            stored = [(event.device_id, event.user_id) for event in await waiting(outbox)]
            assert stored == [(device, user) for _, device, user in rows]
            assert await append(outbox, *events) == AppendResult(0, len(rows))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check())
