"""Taking events in: recognise repetitions, store, and answer after the sync.

Requests that arrive while a sync runs are stored together by the next one. A key decides
whether an event is new: keys since the last fold are in memory (`Keys`), older ones on disk,
and the disk is asked by the very statement that inserts.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

import orjson

from relay.database.database import Database
from relay.database.ticket import Ticket
from relay.errors import StoreFull
from relay.events.mapping import MappedEvent
from relay.outbox.ledger import Counts, Ledger
from relay.outbox.sql import SQL

DAY_MS = 86_400_000
KEY_BYTES = 16

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bodies that may wait for a sync in memory; more is refused, the sender tries again."""


@dataclass(frozen=True, slots=True)
class QuarantinedBody:
    """A body or array member that could not be understood, as it came."""

    hook: str
    reason: str
    detail: str
    body: bytes


@dataclass(slots=True)
class Intake:
    """What one request brought, stored whole or not at all.

    Attributes:
        app: The app's number.
        received_at: Epoch milliseconds.
        events: What Amplitude shall get.
        filtered: How many events the configuration leaves out.
        quarantined: What could not be understood.
        messages: Message ids and their fields as JSON, for later blank events.
    """

    app: int
    received_at: int
    events: list[MappedEvent] = field(default_factory=list)
    filtered: int = 0
    quarantined: list[QuarantinedBody] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)

    def size_bytes(self) -> int:
        """Return the bytes of all bodies."""
        size_bytes = 0
        for event in self.events:
            size_bytes += len(event.body)
        for body in self.quarantined:
            size_bytes += len(body.body)
        return size_bytes


class Taken(NamedTuple):
    """The answer to one intake, on disk."""

    accepted: int
    duplicate: int


class Keys:
    """Keys accepted since the last fold.

    Attributes:
        days: The UTC day (since 1970) of each key.
        last_seq: The highest sequence number whose key is here or folded.
    """

    def __init__(self, days: Iterable[tuple[bytes, int]], last_seq: int) -> None:
        self.days = dict(days)
        self.last_seq = last_seq

    def __len__(self) -> int:
        return len(self.days)


def event_key(app: int, insert_id: str) -> bytes:
    """Return the 16 bytes that stand for an event of an app, now and in 30 days."""
    return blake2b(b"%d:%b" % (app, insert_id.encode()), digest_size=KEY_BYTES).digest()


class _Append:
    """The open end of the line: intakes that share the next transaction."""

    __slots__ = ("_keys", "_seqs", "accepted", "fresh", "intakes", "last_seq")

    def __init__(self, keys: Keys, seqs: "count[int]") -> None:
        self._keys = keys
        self._seqs = seqs
        self.intakes: list[Intake] = []
        self.fresh: dict[bytes, int] = {}
        self.last_seq = 0
        self.accepted: dict[int, int] = {}

    def __call__(self, raw: sqlite3.Connection) -> list[Taken]:
        """Store every intake; return an answer for each."""
        self.fresh = {}
        accepted = self._insert_events(raw)
        taken = []
        steps: dict[int, list[int]] = {}
        for intake, new in zip(self.intakes, accepted, strict=True):
            repeated = len(intake.events) - new
            taken.append(Taken(new, repeated))
            step = steps.setdefault(intake.app, [0, 0, 0, 0])
            step[0] += new
            step[1] += repeated
            if intake.filtered or intake.quarantined or intake.messages:
                step[2] += intake.filtered
                step[3] += len(intake.quarantined)
                _insert_others(raw, intake)
        for app, (new, repeated, filtered, quarantined) in steps.items():
            counts = Counts(
                accepted=new, duplicate=repeated, filtered=filtered, quarantined=quarantined
            )
            counts.move(raw, app)
        self.accepted = {app: step[0] for app, step in steps.items()}
        return taken

    def _insert_events(self, raw: sqlite3.Connection) -> Sequence[int]:
        """Insert what is new; return how many events of each intake were."""
        accepted = [0] * len(self.intakes)
        group = _Group()
        owners: list[int] = []
        known, fresh, seqs = self._keys.days, self.fresh, self._seqs
        for place, intake in enumerate(self.intakes):
            for event in intake.events:
                key = event_key(intake.app, event.insert_id)
                if key in known or key in fresh:
                    continue
                fresh[key] = intake.received_at // DAY_MS
                group.add(next(seqs), key, intake, event)
                owners.append(place)
                accepted[place] += 1
        for index in group.insert(raw):
            accepted[owners[index]] -= 1
            del fresh[group.keys[index]]
        self.last_seq = group.last_seq
        return accepted


class _Group:
    """New events of a transaction, laid out for one statement."""

    __slots__ = ("_bodies", "_place", "_rows", "keys")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self._rows: list[tuple[int, int, str | None, str | None, int, int, int]] = []
        self._bodies: list[bytes] = []
        self._place = 1

    def add(self, seq: int, key: bytes, intake: Intake, event: MappedEvent) -> None:
        """Add an event; sequence numbers must rise."""
        body = event.body
        ids = event.device_id, event.user_id
        self._rows.append((seq, intake.app, *ids, intake.received_at, self._place, len(body)))
        self._place += len(body)
        self.keys.append(key)
        self._bodies.append(body)

    @property
    def last_seq(self) -> int:
        """The highest sequence number, 0 without events."""
        return self._rows[-1][0] if self._rows else 0

    def insert(self, raw: sqlite3.Connection) -> list[int]:
        """Insert the events; return the places of those that the disk already knew."""
        if not self._rows:
            return []
        parameters = {
            "rows": orjson.dumps(self._rows).decode(),
            "keys": b"".join(self.keys),
            "bodies": b"".join(self._bodies),
        }
        if raw.execute(SQL["append"], parameters).rowcount == len(self._rows):
            return []
        span = {"first": self._rows[0][0], "last": self.last_seq}
        added = {seq for (seq,) in raw.execute(SQL["appended"], span)}
        return [index for index, row in enumerate(self._rows) if row[0] not in added]


def _insert_others(raw: sqlite3.Connection, intake: Intake) -> None:
    """Store what an intake holds besides events."""
    raw.executemany(
        SQL["add_quarantined"],
        [
            (intake.app, body.hook, body.reason, body.detail, intake.received_at, body.body)
            for body in intake.quarantined
        ],
    )
    day = intake.received_at // DAY_MS
    raw.executemany(
        SQL["keep_message"],
        [(intake.app, message_id, fields, day) for message_id, fields in intake.messages],
    )


class Intakes:
    """The way into the outbox.

    Attributes:
        waiting_bytes: Bodies in memory that wait for their sync.
        waiting_events: Events in memory that wait for their sync.
    """

    def __init__(
        self, database: Database, ledger: Ledger, keys: Keys, seqs: "count[int]", max_events: int
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._keys = keys
        self._seqs = seqs
        self._max_events = max_events
        self._listeners: dict[int, Callable[[int], None]] = {}
        self._open: _Append | None = None
        self._ticket: Ticket[list[Taken]] | None = None
        self.waiting_bytes = 0
        self.waiting_events = 0

    async def append(self, intake: Intake) -> Taken:
        """Store what a request brought and return once it is committed and synced.

        Raises:
            StoreFull: If the outbox is at its limit, memory or disk has no room; nothing
                of the intake is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        events, size_bytes = len(intake.events), intake.size_bytes()
        if self.waiting_bytes and self.waiting_bytes + size_bytes > MAX_WAITING_BYTES:
            raise StoreFull("too much waits for the disk")
        if events and self._ledger.pending + self.waiting_events + events > self._max_events:
            await self._refuse_new_events(intake)
        if self._open is None or self._ticket is None or self._ticket.is_taken:
            self._open = _Append(self._keys, self._seqs)
            self._ticket = self._database.submit(
                self._open, on_commit=partial(self._committed, self._open)
            )
        place = len(self._open.intakes)
        self._open.intakes.append(intake)
        ticket = self._ticket
        self.waiting_bytes += size_bytes
        self.waiting_events += events
        try:
            return (await ticket.wait())[place]
        finally:
            self.waiting_bytes -= size_bytes
            self.waiting_events -= events

    def listen(self, app: int, listener: Callable[[int], None]) -> None:
        """Have `listener` called with their number whenever events of `app` were committed."""
        self._listeners[app] = listener

    async def _refuse_new_events(self, intake: Intake) -> None:
        """Raise unless the outbox has room for those events of a body that are new."""
        keys = {event_key(intake.app, event.insert_id) for event in intake.events}
        unknown = [key for key in keys if key not in self._keys.days]

        def count(raw: sqlite3.Connection) -> int:
            return sum(
                raw.execute(SQL["is_seen"], {"key": key}).fetchone() is None for key in unknown
            )

        new = await self._database.read(count)
        if new and self._ledger.pending + self.waiting_events + new > self._max_events:
            raise StoreFull(f"the outbox holds its {self._max_events} events")

    def _committed(self, append: _Append, taken: Sequence[Taken]) -> None:
        """Let memory follow the disk, then wake whoever delivers."""
        self._keys.days.update(append.fresh)
        self._keys.last_seq = max(self._keys.last_seq, append.last_seq)
        self._ledger.pending += sum(answer.accepted for answer in taken)
        for app, events in append.accepted.items():
            if events and app in self._listeners:
                self._listeners[app](events)
