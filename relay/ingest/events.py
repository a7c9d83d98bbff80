"""From the bytes of a hook to rows on disk: read, map, remember, append.

Nothing that comes in is lost: what cannot be understood goes into quarantine as it came, in
the same transaction as the events beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import anyio.lowlevel

from relay.clock import Clock
from relay.directory.observer import Observer
from relay.errors import PayloadError
from relay.events.mapping import Filtered, MappedEvent, MappingPolicy, map_record
from relay.events.payload import parse_body, read_record
from relay.events.records import Record, fill_blank
from relay.events.texts import json_of
from relay.outbox.batch import DAY_MS, AppendResult, IngestBatch, QuarantinedBody
from relay.outbox.message_cache import MessageCache
from relay.outbox.quarantine import Quarantine, Quarantined
from relay.outbox.selection import Selection
from relay.outbox.writer import OutboxWriter

HOOK = "events"

TURN_EVENTS = 100
"""Events of one body read before other requests get their turn."""


@dataclass(frozen=True, slots=True)
class Source:
    """An app as its events hook sees it.

    Attributes:
        app: The app's name.
        no: The app's number in the outbox.
        policy: How its events become Amplitude's.
    """

    app: str
    no: int
    policy: MappingPolicy


class Received(NamedTuple):
    """What became of the events of one body; they add up to its number of events."""

    accepted: int
    duplicate: int
    filtered: int
    quarantined: int


class EventIngest:
    """Takes the bodies of the events hook."""

    def __init__(
        self,
        intakes: OutboxWriter,
        messages: MessageCache,
        clock: Clock,
        feed: Observer | None = None,
    ) -> None:
        """Make a reception; with a feed, the directory learns of what passes by."""
        self._intakes = intakes
        self._messages = messages
        self._clock = clock
        self._feed = feed

    async def receive(self, source: Source, raw: bytes) -> Received:
        """Store what `raw` holds and return once it is on disk.

        Raises:
            StoreFull: If there is no room now; nothing of the body is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        intake = IngestBatch(source.no, self._clock.now_ms())
        try:
            elements = parse_body(raw)
        except PayloadError as error:
            return await self.refuse(source, raw, error)
        is_whole_body = len(elements) == 1 and not isinstance(elements[0], list)
        for place, element in enumerate(elements, start=1):
            try:
                await self._take(source, element, intake)
            except PayloadError as error:
                if self._feed and self._feed.names_forgotten(source.app, element):
                    intake.filtered += 1
                    continue
                body = raw if is_whole_body else json_of(element)
                intake.quarantined.append(_quarantined(error, body))
            if place % TURN_EVENTS == 0:
                await anyio.lowlevel.checkpoint()
        return await self._append(source, intake)

    async def refuse(self, source: Source, raw: bytes, error: PayloadError) -> Received:
        """Put a whole body into quarantine."""
        intake = IngestBatch(source.no, self._clock.now_ms())
        intake.quarantined.append(_quarantined(error, raw))
        return await self._append(source, intake)

    async def read_again(
        self,
        quarantine: Quarantine,
        selection: Selection,
        sources: Mapping[str, Source],
        *,
        dry_run: bool = False,
    ) -> int:
        """Read quarantined bodies once more; those understood now are taken.

        Returns:
            How many bodies left the quarantine, or would.
        """
        affected = 0
        async for ids in quarantine.walk(selection):
            async for body in quarantine.named(ids):
                intake = await self._read_again(sources.get(body.app), body)
                if intake is None:
                    continue
                if not dry_run and (await self._append_again(sources[body.app], intake)).is_void:
                    continue  # another reader was faster
                affected += 1
        return affected

    async def _append_again(self, source: Source, intake: IngestBatch) -> AppendResult:
        self._leave_out_forgotten(source, intake)
        return await self._intakes.append(intake)

    async def _read_again(self, source: Source | None, body: Quarantined) -> IngestBatch | None:
        """Return what a quarantined body holds, None if it is still not understood.

        Its instant of receipt counts on, so that an event without a time or an id is the
        same event as at the first reading.
        """
        if source is None or body.hook != HOOK:
            return None
        intake = IngestBatch(source.no, body.received_at, quarantine_id=body.id)
        try:
            for element in parse_body(body.body):
                await self._take(source, element, intake)
        except PayloadError:
            return None
        return intake

    async def _take(self, source: Source, element: object, intake: IngestBatch) -> None:
        record = await self._complete(source, read_record(element), intake)
        if self._feed:
            if self._feed.is_forgotten(source.app, record.external_id):
                intake.filtered += 1
                return
            self._feed.offer(source.app, record, intake.received_at)
        match map_record(record, source.policy, received_at_ms=intake.received_at):
            case MappedEvent() as mapped:
                intake.events.append(mapped)
                intake.people.append(record.external_id)
            case Filtered():
                intake.filtered += 1

    async def _complete(self, source: Source, record: Record, intake: IngestBatch) -> Record:
        """Remember what a message says, or fill in what was remembered."""
        message = record.message
        if message.id is None:
            return record
        if message.is_blank:
            remembered = await self._messages.recall(source.no, message.id)
            return fill_blank(record, remembered) if remembered else record
        fields = self._messages.note(source.no, message, intake.received_at // DAY_MS)
        if fields is not None:
            intake.messages.append((message.id, fields))
        return record

    async def _append(self, source: Source, intake: IngestBatch) -> Received:
        self._leave_out_forgotten(source, intake)
        taken = await self._intakes.append(intake)
        for message_id, _ in intake.messages:
            self._messages.confirm(intake.app, message_id, intake.received_at // DAY_MS)
        return Received(taken.accepted, taken.duplicate, intake.filtered, len(intake.quarantined))

    def _leave_out_forgotten(self, source: Source, intake: IngestBatch) -> None:
        """Ask once more, at the last moment: reading a large body gives others their turn."""
        if not self._feed or not self._feed.has_forgotten:
            return
        kept = [
            event
            for event, person in zip(intake.events, intake.people, strict=True)
            if not self._feed.is_forgotten(source.app, person)
        ]
        intake.filtered += len(intake.events) - len(kept)
        intake.events = kept


def _quarantined(error: PayloadError, body: bytes) -> QuarantinedBody:
    return QuarantinedBody(HOOK, error.reason, error.detail, body)
