"""The way into the outbox: requests that arrive while a sync runs share the next one."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from relay.database.database import Database
from relay.database.pending_write import PendingWrite
from relay.errors import StoreFull
from relay.outbox.append import AppendTransaction
from relay.outbox.batch import AppendResult, DedupIndex, IngestBatch, dedup_key
from relay.outbox.counters import AppCounters
from relay.outbox.sql import SQL

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bodies that may wait for a sync in memory; more is refused, the sender tries again."""


class OutboxWriter:
    """The way into the outbox.

    Attributes:
        max_events: Pending events past which new ones are refused.
        waiting_bytes: Bodies in memory that wait for their sync.
        waiting_events: Events in memory that wait for their sync.
    """

    def __init__(
        self,
        database: Database,
        counters: AppCounters,
        keys: DedupIndex,
        seqs: "count[int]",
        max_events: int,
    ) -> None:
        self._database = database
        self._counters = counters
        self._keys = keys
        self._seqs = seqs
        self.max_events = max_events
        self._listeners: dict[int, Callable[[int], None]] = {}
        self._open: AppendTransaction | None = None
        self._pending: PendingWrite[list[AppendResult]] | None = None
        self.waiting_bytes = 0
        self.waiting_events = 0

    async def append(self, intake: IngestBatch) -> AppendResult:
        """Store what a request brought and return once it is committed and synced.

        Raises:
            StoreFull: If the outbox is at its limit, memory or disk has no room; nothing
                of the intake is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        events, size_bytes = len(intake.events), intake.size_bytes()
        if self.waiting_bytes and self.waiting_bytes + size_bytes > MAX_WAITING_BYTES:
            raise StoreFull("too much waits for the disk")
        if events and self._counters.pending + self.waiting_events + events > self.max_events:
            await self._refuse_new_events(intake)
        if self._open is None or self._pending is None or self._pending.is_started:
            self._open = AppendTransaction(self._keys, self._seqs)
            self._pending = self._database.submit(
                self._open, on_commit=partial(self._committed, self._open)
            )
        place = len(self._open.intakes)
        self._open.intakes.append(intake)
        pending = self._pending
        self.waiting_bytes += size_bytes
        self.waiting_events += events
        try:
            return (await pending.wait())[place]
        finally:
            self.waiting_bytes -= size_bytes
            self.waiting_events -= events

    def listen(self, app: int, listener: Callable[[int], None]) -> None:
        """Have `listener` called with their number whenever events of `app` were committed."""
        self._listeners[app] = listener

    async def _refuse_new_events(self, intake: IngestBatch) -> None:
        """Raise unless the outbox has room for those events of a body that are new."""
        keys = {dedup_key(intake.app, event.insert_id, event.scope) for event in intake.events}
        unknown = [key for key in keys if key not in self._keys.days]

        def count(raw: sqlite3.Connection) -> int:
            return sum(
                raw.execute(SQL["is_seen"], {"key": key}).fetchone() is None for key in unknown
            )

        new = await self._database.read(count)
        if new and self._counters.pending + self.waiting_events + new > self.max_events:
            raise StoreFull(f"the outbox holds its {self.max_events} events")

    def _committed(self, append: AppendTransaction, taken: Sequence[AppendResult]) -> None:
        """Let memory follow the disk, then wake whoever delivers."""
        if self._open is append:
            self._open = self._pending = None  # its bodies need not stay until the next ones come
        self._keys.days.update(append.fresh)
        self._keys.last_seq = max(self._keys.last_seq, append.last_seq)
        self._counters.pending += sum(answer.accepted for answer in taken)
        for app, events in append.accepted.items():
            if events and app in self._listeners:
                self._listeners[app](events)
