"""The contents of messages, kept to fill late events whose message OneSignal has forgotten.

OneSignal keeps the content of API and Journey messages for 30 days; a later click has the message
id alone. The first content seen of a message is kept for 90 days.

Source: documentation.onesignal.com, Event Streams data reference (2026).
"""

from collections import OrderedDict
from typing import NamedTuple

from relay.clock import DAY_MS
from relay.database.database import Database
from relay.events.batch import IngestBatch
from relay.events.records import MessageFields, Record, complete, fill_blank
from relay.outbox.sql import SQL

CACHED_MESSAGES = 10_000

MAX_FIELDS_BYTES = 16_384
"""A message with larger fields is not kept; Amplitude gets 1,024 characters of each field."""


class _Noted(NamedTuple):
    """A message in memory.

    Attributes:
        fields: Its fields.
        day: The day on which the disk was last known to have exactly these; 0 if it has not.
        is_whole: Whether they include what the disk had before.
    """

    fields: MessageFields
    day: int
    is_whole: bool


class MessageCache:
    """Message fields by app and message id, the recent ones in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[tuple[int, str], _Noted] = OrderedDict()

    def note(self, app: int, fields: MessageFields, today: int) -> bytes | None:
        """Keep a message's fields in memory; return them as JSON if the disk should keep them too.

        The first content of a field wins; later events add fields that earlier ones left out.
        The fields are returned until `confirm` says that the disk has them, and once a day
        after that, to extend their 90 days.

        Args:
            app: The app's number.
            fields: Fields with an id, not blank.
            today: UTC days since 1970.
        """
        place = (app, fields.id or "")
        noted = self._cache.get(place)
        if noted is None:
            noted = _Noted(fields, 0, is_whole=False)
        elif noted.fields != fields and (merged := complete(noted.fields, fields)) != noted.fields:
            noted = noted._replace(fields=merged, day=0)  # the disk has less than this
        elif noted.day == today:
            return None  # nearly every event: many events of a day have the same message
        kept = noted.fields.to_json()
        if len(kept) > MAX_FIELDS_BYTES:
            return None
        self._remember(place, noted)
        return kept

    async def complete(self, batch: IngestBatch, part: range) -> None:
        """Fill the blank records of a part of a batch, and keep the contents of the others.

        In order: a blank record is filled from earlier ones of its batch, never from later ones.

        Args:
            batch: The batch; fields worth keeping are added to its messages.
            part: Places of records.
        """
        today = batch.received_at // DAY_MS
        for place in part:
            record = batch.records[place]
            if not isinstance(record, Record) or record.message.id is None:
                continue
            if record.message.is_blank:
                remembered = await self.recall(batch.app, record.message.id)
                if remembered:
                    batch.records[place] = fill_blank(record, remembered)
            elif (fields := self.note(batch.app, record.message, today)) is not None:
                batch.messages.append((record.message.id, fields))

    def confirm(self, batch: IngestBatch) -> None:
        """Note that the disk has the messages of a batch."""
        for message_id, _ in batch.messages:
            place = (batch.app, message_id)
            if place in self._cache:
                today = batch.received_at // DAY_MS
                self._cache[place] = self._cache[place]._replace(day=today)

    async def recall(self, app: int, message_id: str) -> MessageFields | None:
        """Return the fields earlier events had of a message, None if none is known."""
        place = (app, message_id)
        noted = self._cache.get(place)
        if noted is None or not noted.is_whole:
            stored = await self._read(app, message_id) or MessageFields(id=message_id)
            # Others may have noted fields while this waited for the disk.
            noted = self._cache.get(place) or _Noted(stored, 0, is_whole=True)
            whole = complete(stored, noted.fields)
            noted = noted._replace(fields=whole, is_whole=True)
            self._remember(place, noted)
        return None if noted.fields.is_blank else noted.fields

    def _remember(self, place: tuple[int, str], noted: _Noted) -> None:
        self._cache[place] = noted
        self._cache.move_to_end(place)
        if len(self._cache) > CACHED_MESSAGES:
            self._cache.popitem(last=False)

    async def _read(self, app: int, message_id: str) -> MessageFields | None:
        place = {"app": app, "message_id": message_id}
        rows = await self._database.fetch(SQL["message"], place)
        return MessageFields.from_json(rows[0][0]) if rows else None
