"""The way into the outbox: drop repetitions, store, count; requests share one sync.

Requests that arrive while a transaction waits for its turn join it (`AppendTransaction`), so one
sync answers all of them.

A dedup key decides whether an event is new. Keys since the last flush are in memory
(`DedupIndex`), older ones on disk, and the very statement that inserts checks those on disk.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

import orjson

from relay.clock import DAY_MS
from relay.database.database import Database
from relay.database.pending_write import PendingWrite
from relay.errors import StoreFull
from relay.events.batch import IngestBatch
from relay.events.mapping import MappedEvent
from relay.outbox.counters import AppCounters, Counts
from relay.outbox.dedup import DedupIndex, dedup_key
from relay.outbox.sql import SQL

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bodies that may wait in memory for a sync; beyond it a request is refused, to be sent again."""


class AppendResult(NamedTuple):
    """The answer to a batch, given once it is on disk.

    Attributes:
        accepted: Events that are new.
        duplicate: Events accepted before.
        is_void: Whether nothing was stored, because the quarantined body was gone.
    """

    accepted: int
    duplicate: int
    is_void: bool = False


class OutboxWriter:
    """Appends batches.

    Attributes:
        max_events: Pending events past which new ones are refused; it may be replaced at any time.
        waiting_bytes: Bodies in memory that wait for their sync.
        waiting_events: Events in memory that wait for their sync.
    """

    def __init__(
        self,
        database: Database,
        counters: AppCounters,
        dedup: DedupIndex,
        seqs: "count[int]",
        max_events: int,
    ) -> None:
        self._database = database
        self._counters = counters
        self._dedup = dedup
        self._seqs = seqs
        self.max_events = max_events
        self._listeners: dict[int, Callable[[int], None]] = {}
        self._open: AppendTransaction | None = None
        self._pending: PendingWrite[list[AppendResult]] | None = None
        self.waiting_bytes = 0
        self.waiting_events = 0

    async def append(self, batch: IngestBatch) -> AppendResult:
        """Store a batch, all or nothing, and return once it is committed and synced.

        Raises:
            StoreFull: If the outbox is at its limit, or memory or disk has no room; nothing of
                the batch is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        await self.check_room(batch)
        return await self.join(batch)

    async def check_room(self, batch: IngestBatch) -> None:
        """Return if the outbox has room for those events of a batch that are new.

        It waits for the disk only near the limit.

        Raises:
            StoreFull: If it has not.
        """
        if not batch.events or self._has_room(len(batch.events)):
            return
        # A sender that repeats accepted events must get its answer even from a full outbox, or
        # it would repeat them until one is delivered.
        new = await self._count_new(batch)
        if new and not self._has_room(new):
            raise StoreFull(f"the outbox holds its {self.max_events} events")

    async def join(self, batch: IngestBatch) -> AppendResult:
        """Store a batch for which there is room; it joins a transaction before anything is awaited.

        Raises:
            StoreFull: If memory or disk has no room; nothing of the batch is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        events, size_bytes = len(batch.events), batch.size_bytes()
        # A single batch always fits, however large: it would be refused for ever otherwise.
        if self.waiting_bytes and self.waiting_bytes + size_bytes > MAX_WAITING_BYTES:
            raise StoreFull("too much waits for the disk")
        # A transaction that has begun reads its batches on the writer's thread: too late to join.
        if self._open is None or self._pending is None or self._pending.is_started:
            self._open = AppendTransaction(self._dedup, self._seqs)
            self._pending = self._database.submit(
                self._open, on_commit=partial(self._committed, self._open)
            )
        place = len(self._open.batches)
        self._open.batches.append(batch)
        pending = self._pending
        self.waiting_bytes += size_bytes
        self.waiting_events += events
        try:
            return (await pending.wait())[place]
        finally:
            self.waiting_bytes -= size_bytes
            self.waiting_events -= events

    def listen(self, app: int, listener: Callable[[int], None]) -> None:
        """Call `listener` with the number of new events whenever some of `app` are committed."""
        self._listeners[app] = listener

    def _has_room(self, events: int) -> bool:
        return self._counters.pending + self.waiting_events + events <= self.max_events

    async def _count_new(self, batch: IngestBatch) -> int:
        keys = {dedup_key(batch.app, event.insert_id, event.scope) for event in batch.events}
        unknown = [key for key in keys if key not in self._dedup.days]

        def count(raw: sqlite3.Connection) -> int:
            return sum(
                raw.execute(SQL["is_seen"], {"key": key}).fetchone() is None for key in unknown
            )

        return await self._database.read(count)

    def _committed(self, append: "AppendTransaction", results: Sequence[AppendResult]) -> None:
        """Let memory follow the disk, then wake the senders."""
        if self._open is append:
            self._open = self._pending = None  # frees its bodies before the next batch comes
        self._dedup.days.update(append.fresh)
        self._dedup.last_seq = max(self._dedup.last_seq, append.last_seq)
        self._counters.pending += sum(result.accepted for result in results)
        for app, events in append.accepted.items():
            if events and app in self._listeners:
                self._listeners[app](events)


class AppendTransaction:
    """Batches that share a transaction; more join until it begins.

    Attributes:
        batches: The batches, in order of arrival.
        fresh: Keys of new events with their day, once it ran.
        last_seq: The highest sequence number it gave.
        accepted: New events by app number.
    """

    __slots__ = ("_dedup", "_seqs", "accepted", "batches", "fresh", "last_seq")

    def __init__(self, dedup: DedupIndex, seqs: "count[int]") -> None:
        self._dedup = dedup
        self._seqs = seqs
        self.batches: list[IngestBatch] = []
        self.fresh: dict[bytes, int] = {}
        self.last_seq = 0
        self.accepted: dict[int, int] = {}

    def __call__(self, raw: sqlite3.Connection) -> list[AppendResult]:
        """Store every batch; return a result for each. A repeated call begins anew."""
        self.fresh = {}
        void = {id(batch) for batch in self.batches if not _leaves_quarantine(raw, batch)}
        accepted = self._insert_events(raw)
        results = []
        steps: dict[int, list[int]] = {}
        for batch, new in zip(self.batches, accepted, strict=True):
            repeated = len(batch.events) - new
            results.append(AppendResult(new, repeated, id(batch) in void))
            step = steps.setdefault(batch.app, [0, 0, 0, 0])
            step[0] += new
            step[1] += repeated
            # Hardly any batch has more than events, and two empty `executemany` cost time.
            if batch.filtered or batch.quarantined or batch.messages:
                step[2] += batch.filtered
                step[3] += len(batch.quarantined)
                _insert_others(raw, batch)
        for app, (new, repeated, filtered, quarantined) in steps.items():
            counts = Counts(
                accepted=new, duplicate=repeated, filtered=filtered, quarantined=quarantined
            )
            counts.add(raw, app)
        self.accepted = {app: step[0] for app, step in steps.items()}
        return results

    def _insert_events(self, raw: sqlite3.Connection) -> Sequence[int]:
        """Insert new events; return how many each batch had."""
        accepted = [0] * len(self.batches)
        rows = _Rows()
        owners: list[int] = []
        known, fresh, seqs = self._dedup.days, self.fresh, self._seqs
        for place, batch in enumerate(self.batches):
            for event in batch.events:
                key = dedup_key(batch.app, event.insert_id, event.scope)
                if key in known or key in fresh:
                    continue
                fresh[key] = batch.received_at // DAY_MS
                rows.add(next(seqs), key, batch, event)
                owners.append(place)
                accepted[place] += 1
        # These keys left memory with an earlier flush: only the disk still knew them.
        for index in rows.insert(raw):
            accepted[owners[index]] -= 1
            del fresh[rows.keys[index]]
        self.last_seq = rows.last_seq
        return accepted


class _Rows:
    """New events of a transaction, laid out for one statement."""

    __slots__ = ("_bodies", "_place", "_rows", "keys")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self._rows: list[tuple[int, int, str | None, str | None, int, int, int]] = []
        self._bodies: list[bytes] = []
        self._place = 1

    def add(self, seq: int, key: bytes, batch: IngestBatch, event: MappedEvent) -> None:
        """Add an event; sequence numbers must rise."""
        body = event.body
        ids = event.device_id, event.user_id
        self._rows.append((seq, batch.app, *ids, batch.received_at, self._place, len(body)))
        self._place += len(body)
        self.keys.append(key)
        self._bodies.append(body)

    @property
    def last_seq(self) -> int:
        """The highest sequence number, 0 without events."""
        return self._rows[-1][0] if self._rows else 0

    def insert(self, raw: sqlite3.Connection) -> list[int]:
        """Insert the events; return the places of those whose key is on disk already."""
        if not self._rows:
            return []
        parameters = {
            "rows": orjson.dumps(self._rows).decode(),
            "keys": b"".join(self.keys),
            "bodies": b"".join(self._bodies),
        }
        if raw.execute(SQL["append"], parameters).rowcount == len(self._rows):
            return []
        # Late repetitions are rare, so which rows were left out is asked only when some were.
        span = {"first": self._rows[0][0], "last": self.last_seq}
        added = {seq for (seq,) in raw.execute(SQL["appended"], span)}
        return [index for index, row in enumerate(self._rows) if row[0] not in added]


def _leaves_quarantine(raw: sqlite3.Connection, batch: IngestBatch) -> bool:
    """Remove the quarantined body a batch was read from; empty the batch if it is gone.

    Gone means that another retry was faster, or an operator discarded it: either way its events
    must not be stored now.
    """
    if batch.quarantine_id is None:
        return True
    named = orjson.dumps([batch.quarantine_id]).decode()
    is_there = raw.execute(SQL["drop_quarantined"], {"ids": named}).rowcount > 0
    if not is_there:
        batch.empty()
    return is_there


def _insert_others(raw: sqlite3.Connection, batch: IngestBatch) -> None:
    """Store what a batch has besides events."""
    raw.executemany(
        SQL["add_quarantined"],
        [
            (batch.app, body.hook, body.reason, body.detail, batch.received_at, body.body)
            for body in batch.quarantined
        ],
    )
    day = batch.received_at // DAY_MS
    raw.executemany(
        SQL["keep_message"],
        [(batch.app, message_id, fields, day) for message_id, fields in batch.messages],
    )
