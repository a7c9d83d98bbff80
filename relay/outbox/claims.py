"""Claims: the events a sender is about to upload, and how each of them was settled.

A claim is on disk before its first upload, because Amplitude forgets an insert id 7 days after it
first saw it: after a crash, events of an open claim count as tried since the claim began. In turn,
rows of `events` are never updated: a delivery adds one receipt for many events, as spans of
sequence numbers, and the rows go later, in bulk.
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
        ordering_key: Its device, or its user if it has no device; order holds within a key.
        device_id: Its device, None if it has none.
        user_id: Its user, None if anonymous.
        size_bytes: Length of its body.
        accepted_at: Epoch milliseconds.
        first_tried_at: Steady time of its first upload (epoch ms), None if untried.
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
        event: The event.
        reason: A stable word (`invalid_field`, `expired`, …).
        detail: Amplitude's words, without any API key.
    """

    event: Waiting
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """The fate of events of a claim; events in none of the lists stay claimed.

    Attributes:
        delivered: Confirmed by Amplitude.
        dead: Refused by Amplitude for good, or expired.
        released: Pending again, with their attempts so far.
        vanished: No longer on disk: their user was forgotten meanwhile.
    """

    delivered: Sequence[Waiting] = ()
    dead: Sequence[DeadLettered] = ()
    released: Sequence[Waiting] = ()
    vanished: Sequence[Waiting] = ()

    @property
    def events(self) -> list[Waiting]:
        """All settled events."""
        dead = [letter.event for letter in self.dead]
        return [*self.delivered, *dead, *self.released, *self.vanished]


class Claim:
    """Events that one sender uploads.

    Attributes:
        id: Its row.
        app: The app's number.
        events: The events, in order of acceptance.
        left: Number of events not settled yet.
    """

    __slots__ = ("app", "events", "id", "left")

    def __init__(self, claim_id: int, app: int, events: Sequence[Waiting]) -> None:
        self.id = claim_id
        self.app = app
        self.events = events
        self.left = len(events)


class Claims:
    """Reads pending events, opens claims and settles them.

    Attributes:
        has_gaps: Whether events were removed that may be claimed; a settlement must not count
            them.
    """

    def __init__(
        self,
        database: Database,
        counters: AppCounters,
        steady_time: SteadyTime,
        last_id: int,
        unpruned: Collection[int],
    ) -> None:
        self._database = database
        self._counters = counters
        self._steady_time = steady_time
        self._ids = count(last_id + 1)
        self._unpruned = frozenset(unpruned)
        self.has_gaps = False

    def now_ms(self) -> int:
        """Return the steady time (epoch ms), by which tries are dated."""
        return self._steady_time.now_ms()

    async def read_after(self, app: int, after: int, limit: int) -> tuple[list[Waiting], int]:
        """Return up to `limit` pending events of `app` after sequence number `after`.

        Returns:
            The events in order, and the sequence number to continue from.
        """
        page = {"app": app, "after": after, "limit": limit}
        events = await self._read(SQL["waiting"], page)
        cursor = events[-1].seq if events else after
        # Delivered by a former process, but not pruned yet.
        if self._unpruned:
            events = [event for event in events if event.seq not in self._unpruned]
        return events, cursor

    async def read_named(self, seqs: Collection[int]) -> list[Waiting]:
        """Return those of the events `seqs` that are still there, in order."""
        return await self._read(SQL["named"], {"seqs": _json(list(seqs))})

    async def read_bodies(self, seqs: Collection[int]) -> bytes | None:
        """Return the bodies of the events `seqs` as stored, in that order, joined by commas.

        None if some of the events are gone.
        """
        ((count, bodies),) = await self._database.fetch(SQL["bodies"], {"seqs": _json(list(seqs))})
        # A gap: a user was forgotten since the events were read. The caller settles the others.
        return bodies.encode() if count == len(seqs) else None

    async def read_present(self, seqs: Collection[int]) -> set[int]:
        """Return the sequence numbers of those of `seqs` that are still there."""
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
        """Claim `events` of `app` for an upload that is about to begin at `now_ms`.

        Raises:
            StoreFull: If there is no room for the record; nothing may be uploaded.
        """
        claim = Claim(next(self._ids), app, events)
        spans = encode_spans(event.seq for event in events)
        started_at = self._steady_time.from_wall(now_ms)
        row = {"id": claim.id, "app": app, "started_at": started_at, "spans": spans}
        await self._database.execute(SQL["open_claim"], row)
        return claim

    async def count_attempt(self, claim: Claim) -> None:
        """Record one more upload of a claim."""
        await self._database.execute(SQL["count_attempt"], {"id": claim.id})

    async def settle(self, claim: Claim, settlement: Settlement, now_ms: int) -> None:
        """Record the fate of events of `claim`, all of it or nothing.

        Raises:
            StoreFull: If there is no room now; the same settlement may be tried again.
        """

        def change(raw: sqlite3.Connection) -> int:
            # A query that is needless until a user was forgotten.
            left = _present(raw, settlement) if self.has_gaps else settlement
            _settle(raw, claim, left)
            if left.dead:
                _dead_letter(raw, left.dead, self._steady_time, now_ms)
            return len(left.delivered) + len(left.dead)

        await self._database.submit(change, on_commit=self._counters.settled).wait()


def _present(raw: sqlite3.Connection, settlement: Settlement) -> Settlement:
    """Return a settlement in which the events that are gone count as vanished."""
    seqs = {event.seq for event in settlement.events}
    rows = raw.execute(SQL["present"], {"seqs": _json(sorted(seqs))})
    present = {seq for (seq,) in rows}
    if present == seqs:
        return settlement
    return Settlement(
        delivered=[event for event in settlement.delivered if event.seq in present],
        dead=[letter for letter in settlement.dead if letter.event.seq in present],
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
    raw: sqlite3.Connection, dead: Sequence[DeadLettered], steady_time: SteadyTime, now_ms: int
) -> None:
    """Move events to the dead letters, and their dedup keys to the disk.

    A key must be in memory, in `events` or in `seen`; these events leave `events`.
    """
    rows = _json(
        [
            (
                letter.event.seq,
                letter.reason,
                letter.detail,
                letter.event.attempts,
                steady_time.to_wall(letter.event.first_tried_at),
            )
            for letter in dead
        ]
    )
    raw.execute(SQL["dead_letter"], {"dead": rows, "died_at": now_ms})
    for query in (
        "remember_days",
        "remember_keys",
        "drop_dead_lettered",
        "drop_dead_lettered_tries",
    ):
        raw.execute(SQL[query], {"dead": rows})


def reopen_claims(raw: sqlite3.Connection) -> set[int]:
    """Make the claimed events of a process that ended pending again, at the start.

    Returns:
        Sequence numbers of delivered events whose rows are still there.
    """
    delivered = {seq for (spans,) in raw.execute(SQL["receipts"]) for seq in decode_spans(spans)}
    for started_at, attempts, spans in raw.execute(SQL["claims"]).fetchall():
        # Part of a claim may have been settled before the process ended.
        left = [seq for seq in decode_spans(spans) if seq not in delivered]
        raw.execute(SQL["add_tries"], {"tries": _json([(s, started_at, attempts) for s in left])})
    raw.execute(SQL["close_claims"])
    return delivered


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
