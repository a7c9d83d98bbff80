"""From the bytes of an events webhook to rows on disk.

The steps of every batch: read, complete from the message cache, map, drop forgotten users, append;
once it is committed, the directory observes it. Nothing that comes in is lost: what cannot be
understood goes into quarantine unchanged, in the same transaction as the events beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import anyio.lowlevel

from relay.clock import Clock
from relay.directory.observer import Observer
from relay.errors import PayloadError
from relay.events.batch import HOOK, IngestBatch, QuarantinedBody
from relay.events.mapping import MappingPolicy
from relay.events.records import Record
from relay.outbox.message_cache import MessageCache
from relay.outbox.quarantine import Quarantine, Quarantined
from relay.outbox.selection import Selection
from relay.outbox.writer import AppendResult, OutboxWriter

TURN_EVENTS = 100
"""Events of one body processed before other requests get their turn."""


@dataclass(frozen=True, slots=True)
class Source:
    """An app, for its incoming events.

    Attributes:
        app: The app's name.
        no: The app's number in the outbox.
        policy: How its events become Amplitude's.
    """

    app: str
    no: int
    policy: MappingPolicy


class Received(NamedTuple):
    """The events of one body by their fate; the sum is its number of events."""

    accepted: int
    duplicate: int
    filtered: int
    quarantined: int


class EventIngest:
    """Stores the bodies of the events webhook, and other batches of events."""

    def __init__(
        self,
        writer: OutboxWriter,
        message_cache: MessageCache,
        clock: Clock,
        observer: Observer | None = None,
    ) -> None:
        """Build it.

        Args:
            writer: Stores batches.
            message_cache: Fills late events.
            clock: The time.
            observer: Knows forgotten users and teaches the directory; None where there is none.
        """
        self._writer = writer
        self._message_cache = message_cache
        self._clock = clock
        self._observer = observer

    async def receive(self, source: Source, raw: bytes) -> Received:
        """Store the events of a body and return once they are on disk.

        Raises:
            StoreFull: If there is no room now; nothing of the body is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        try:
            batch = IngestBatch.parse(source.no, self._clock.now_ms(), raw)
        except PayloadError as error:
            return await self.quarantine(source, raw, error)
        await self._process(source, batch)
        result = await self.store(source, batch)
        return Received(result.accepted, result.duplicate, batch.filtered, len(batch.quarantined))

    async def quarantine(self, source: Source, raw: bytes, error: PayloadError) -> Received:
        """Put a whole body into quarantine."""
        batch = IngestBatch(source.no, self._clock.now_ms())
        batch.quarantined.append(QuarantinedBody(HOOK, error.reason, error.detail, raw))
        await self.store(source, batch)
        return Received(0, 0, 0, 1)

    async def retry(
        self,
        quarantine: Quarantine,
        selection: Selection,
        sources: Mapping[str, Source],
        *,
        dry_run: bool = False,
    ) -> int:
        """Read quarantined bodies once more, and store those that are understood now.

        Returns:
            How many bodies left the quarantine, or would.
        """
        affected = 0
        async for ids in quarantine.walk(selection):
            async for body in quarantine.named(ids):
                source = sources.get(body.app)
                if source is not None and body.hook == HOOK:
                    affected += await self._retry(source, body, dry_run=dry_run)
        return affected

    async def _retry(self, source: Source, body: Quarantined, *, dry_run: bool) -> bool:
        try:
            # The first receipt stays the time of receipt: an event without a time or an id gets
            # both from it, and must be the same event as at the first reading.
            batch = IngestBatch.parse(source.no, body.received_at, body.body)
        except PayloadError:
            return False
        await self._process(source, batch)
        if batch.quarantined:
            return False
        batch.quarantine_id = body.id
        return dry_run or not (await self.store(source, batch)).is_void

    async def _process(self, source: Source, batch: IngestBatch) -> None:
        """Read, complete and map every element of a batch."""
        names_forgotten = partial(self._names_forgotten, source.app)
        for part in batch.parts(TURN_EVENTS):
            batch.read(part)
            await self._message_cache.complete(batch, part)
            batch.map(part, source.policy, names_forgotten)
            if len(part) == TURN_EVENTS:
                await anyio.lowlevel.checkpoint()
        batch.elements = ()  # parsed JSON takes several times the memory of its body

    async def store(self, source: Source, batch: IngestBatch) -> AppendResult:
        """Append a processed batch, without forgotten users, and return once it is on disk.

        Raises:
            StoreFull: If there is no room now; nothing of the batch is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        await self._writer.check_room(batch)
        # Nothing is awaited between this and the batch joining a transaction. A user who is
        # forgotten later finds the events in the outbox; one forgotten while a large body was
        # read, or while this waited for the disk, is noticed here.
        if self._observer and self._observer.has_forgotten:
            batch.drop_users(partial(self._observer.is_forgotten, source.app))
        result = await self._writer.join(batch)
        if not result.is_void:
            self._follow(source, batch)
        return result

    def _follow(self, source: Source, batch: IngestBatch) -> None:
        """Update memory, now that the batch is on disk.

        Not before: a batch that is refused comes again, and teaches the directory then.
        """
        if batch.messages:
            self._message_cache.confirm(batch)
        if self._observer:
            for record in batch.records:
                if isinstance(record, Record):
                    self._observer.offer(source.app, record, batch.received_at)

    def _names_forgotten(self, app: str, element: object) -> bool:
        return self._observer is not None and self._observer.names_forgotten(app, element)
