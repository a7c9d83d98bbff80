"""Claims: what a sender has in hand, and what became of it.

The ids and instants of a claim are on disk before its first upload, because Amplitude
forgets insert ids 7 days after it first saw them: after a crash, events of an open claim
count as tried since the claim began.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import orjson

from relay.database.database import Database
from relay.outbox.counters import AppCounters, Counts
from relay.outbox.spans import decode_spans, encode_spans
from relay.outbox.sql import SQL
from relay.outbox.steady_time import SteadyTime


class Waiting(NamedTuple):
    """A pending event without its body.

    Attributes:
        seq: Its place in the order of acceptance.
        ordering_key: Where its order holds: its device, or its user if it has no device.
        device_id: Its device, None if it has none.
        user_id: Its user, None if anonymous.
        size_bytes: Length of its body.
        accepted_at: Epoch milliseconds.
        first_tried_at: Instant of its first upload in the outbox's own time, None if untried.
        attempts: Uploads so far.
    """

    seq: int
    ordering_key: str
    device_id: str | None
    user_id: str | None
    size_bytes: int
    accepted_at: int
    first_tried_at: int | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """Why an event became a dead letter.

    Attributes:
        event: Which.
        reason: A stable word (`invalid_field`, `expired`, …).
        detail: Amplitude's words, without any key.
    """

    event: Waiting
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of events of a claim; whatever is in none of the lists stays claimed.

    Attributes:
        delivered: Confirmed by Amplitude.
        dead: Never to be taken.
        released: Going back to wait, with what is known of their tries.
        vanished: No longer on disk: a person removed them meanwhile.
    """

    delivered: Sequence[Waiting] = ()
    dead: Sequence[DeadLettered] = ()
    released: Sequence[Waiting] = ()
    vanished: Sequence[Waiting] = ()

    @property
    def events(self) -> list[Waiting]:
        """Every event that this settles."""
        dead = [death.event for death in self.dead]
        return [*self.delivered, *dead, *self.released, *self.vanished]


class Claim:
    """Events one sender has in hand.

    Attributes:
        id: Its row.
        app: The app's number.
        events: The events, in order of acceptance.
        left: How many of them are not settled yet.
    """

    __slots__ = ("app", "events", "id", "left")

    def __init__(self, claim_id: int, app: int, events: Sequence[Waiting]) -> None:
        self.id = claim_id
        self.app = app
        self.events = events
        self.left = len(events)


class Claims:
    """Reads what waits, and records claims and their settlement.

    Attributes:
        has_gaps: Whether events were removed that a sender may have in hand; their settlement
            must not count them.
    """

    def __init__(
        self,
        database: Database,
        counters: AppCounters,
        timeline: SteadyTime,
        last_id: int,
        unpruned: Collection[int],
    ) -> None:
        self._database = database
        self._counters = counters
        self._timeline = timeline
        self._ids = count(last_id + 1)
        self._unpruned = frozenset(unpruned)
        self.has_gaps = False

    def now_ms(self) -> int:
        """Return the present in the time that instants of tries are of (epoch ms)."""
        return self._timeline.now_ms()

    async def read_after(self, app: int, after: int, limit: int) -> tuple[list[Waiting], int]:
        """Return up to `limit` events of `app` after sequence number `after`.

        Returns:
            The events in order, and the sequence number to go on from.
        """
        page = {"app": app, "after": after, "limit": limit}
        events = await self._read(SQL["waiting"], page)
        cursor = events[-1].seq if events else after
        if self._unpruned:
            events = [event for event in events if event.seq not in self._unpruned]
        return events, cursor

    async def read_named(self, seqs: Collection[int]) -> list[Waiting]:
        """Return the events of `seqs` that are still there, in order."""
        return await self._read(SQL["named"], {"seqs": _json(list(seqs))})

    async def read_bodies(self, seqs: Collection[int]) -> bytes | None:
        """Return the bodies of the events `seqs`, in that order, with commas between them.

        They are the bytes stored at acceptance. None if some of the events are gone.
        """
        ((count, bodies),) = await self._database.fetch(SQL["bodies"], {"seqs": _json(list(seqs))})
        return bodies.encode() if count == len(seqs) else None

    async def read_present(self, seqs: Collection[int]) -> set[int]:
        """Return which of the events `seqs` are still there."""
        rows = await self._database.fetch(SQL["present"], {"seqs": _json(list(seqs))})
        return {seq for (seq,) in rows}

    async def accepted_at(self, seq: int) -> int | None:
        """Return when an event was accepted (epoch ms), None if it is gone."""
        rows = await self._database.fetch(SQL["accepted_at"], {"seq": seq})
        return rows[0][0] if rows else None

    async def oldest_accepted_at(self, app: int, after: int) -> int | None:
        """Return when the first event of `app` after sequence number `after` was accepted."""
        events, _ = await self.read_after(app, after, 1)
        return events[0].accepted_at if events else None

    async def _read(self, query: str, parameters: Mapping[str, object]) -> list[Waiting]:
        ((events,),) = await self._database.fetch(query, parameters)
        return [Waiting(*event) for event in orjson.loads(events)]

    async def open(self, app: int, events: Sequence[Waiting], now_ms: int) -> Claim:
        """Record that a sender is about to upload `events` of `app`.

        Raises:
            StoreFull: If there is no room for the record; nothing may be uploaded.
        """
        claim = Claim(next(self._ids), app, events)
        spans = encode_spans(event.seq for event in events)
        started_at = self._timeline.place(now_ms)
        row = {"id": claim.id, "app": app, "started_at": started_at, "spans": spans}
        await self._database.execute(SQL["open_claim"], row)
        return claim

    async def count_attempt(self, claim: Claim) -> None:
        """Record that a claim is uploaded once more."""
        await self._database.execute(SQL["count_attempt"], {"id": claim.id})

    async def settle(self, claim: Claim, settlement: Settlement, now_ms: int) -> None:
        """Record what became of events of `claim`, all of it or nothing.

        Raises:
            StoreFull: If there is no room now; the same settlement may be tried again.
        """

        def change(raw: sqlite3.Connection) -> int:
            left = _present(raw, settlement) if self.has_gaps else settlement
            _settle(raw, claim, left)
            if left.dead:
                _dead_letter(raw, left.dead, self._timeline, now_ms)
            return len(left.delivered) + len(left.dead)

        await self._database.submit(change, on_commit=self._counters.settled).wait()


def _present(raw: sqlite3.Connection, settlement: Settlement) -> Settlement:
    """Return a settlement without the events that are gone; those count as vanished."""
    seqs = {event.seq for event in settlement.events}
    rows = raw.execute(SQL["present"], {"seqs": _json(sorted(seqs))})
    present = {seq for (seq,) in rows}
    if present == seqs:
        return settlement
    return Settlement(
        delivered=[event for event in settlement.delivered if event.seq in present],
        dead=[death for death in settlement.dead if death.event.seq in present],
        released=[event for event in settlement.released if event.seq in present],
        vanished=[event for event in settlement.events if event.seq not in present],
    )


def _settle(raw: sqlite3.Connection, claim: Claim, settlement: Settlement) -> None:
    if settlement.delivered:
        spans = encode_spans(event.seq for event in settlement.delivered)
        last_seq = max(event.seq for event in settlement.delivered)
        raw.execute(SQL["add_receipt"], {"last_seq": last_seq, "spans": spans})
    if settlement.released:
        tries = [(event.seq, event.first_tried_at, event.attempts) for event in settlement.released]
        raw.execute(SQL["keep_tries"], {"tries": _json(tries)})
    if len(settlement.events) >= claim.left:
        raw.execute(SQL["close_claim"], {"id": claim.id})
    step = Counts(delivered=len(settlement.delivered), dead=len(settlement.dead))
    step.add(raw, claim.app)


def _dead_letter(
    raw: sqlite3.Connection, deaths: Sequence[DeadLettered], timeline: SteadyTime, now_ms: int
) -> None:
    """Move events to the dead letters, their keys to the remembered ones."""
    rows = _json(
        [
            (
                death.event.seq,
                death.reason,
                death.detail,
                death.event.attempts,
                timeline.show(death.event.first_tried_at),
            )
            for death in deaths
        ]
    )
    raw.execute(SQL["bury"], {"deaths": rows, "died_at": now_ms})
    for query in ("remember_days", "remember_keys", "drop_buried", "drop_buried_tries"):
        raw.execute(SQL[query], {"deaths": rows})


def rescue(raw: sqlite3.Connection) -> set[int]:
    """Return claims of a process that ended to the line, inside a transaction at the start.

    Returns:
        Sequence numbers whose delivery is recorded but whose rows are still there.
    """
    delivered = {seq for (spans,) in raw.execute(SQL["receipts"]) for seq in decode_spans(spans)}
    for started_at, attempts, spans in raw.execute(SQL["claims"]).fetchall():
        left = [seq for seq in decode_spans(spans) if seq not in delivered]
        raw.execute(SQL["add_tries"], {"tries": _json([(s, started_at, attempts) for s in left])})
    raw.execute(SQL["close_claims"])
    return delivered


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
