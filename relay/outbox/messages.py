"""What messages said: fills late events whose message OneSignal has forgotten.

OneSignal keeps the content of API and Journey messages for 30 days; a later click comes
with the message id alone. The first content seen of a message is kept for 90 days.

Source: documentation.onesignal.com, Event Streams data reference (2026).
"""

from collections import OrderedDict

from relay.database.database import Database
from relay.events.records import MessageFields
from relay.outbox.sql import SQL

CACHED_MESSAGES = 10_000

MAX_FIELDS_BYTES = 16_384
"""Fields of a message that are worth keeping; Amplitude gets 1,024 characters of each."""


class Messages:
    """Message fields by app and message id, the recent ones in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[tuple[int, str], tuple[int, MessageFields | None]] = OrderedDict()

    def note(self, app: int, fields: MessageFields, today: int) -> bytes | None:
        """Note a message's fields; return them as JSON if the disk should keep them.

        That is until `confirm` says that it does, once a day for each message: the first
        time for its content, later to extend its 90 days.

        Args:
            app: The app's number.
            fields: Fields with an id, not blank.
            today: UTC days since 1970.
        """
        place = (app, fields.id or "")
        day, known = self._cache.get(place, (0, None))
        if known and day == today:
            return None
        kept = fields.to_json()
        if len(kept) > MAX_FIELDS_BYTES:
            return None
        self._remember(place, day, known or fields)
        return kept

    def confirm(self, app: int, message_id: str, today: int) -> None:
        """Note that the disk keeps a message as of today."""
        place = (app, message_id)
        if place in self._cache:
            self._cache[place] = (today, self._cache[place][1])

    async def recall(self, app: int, message_id: str) -> MessageFields | None:
        """Return what an earlier event said of a message, None if nothing is known."""
        place = (app, message_id)
        if place not in self._cache:
            found = await self._read(app, message_id)
            if place not in self._cache:  # nothing was noted meanwhile
                self._remember(place, 0, found)
        return self._cache[place][1]

    def _remember(self, place: tuple[int, str], day: int, fields: MessageFields | None) -> None:
        self._cache[place] = (day, fields)
        self._cache.move_to_end(place)
        if len(self._cache) > CACHED_MESSAGES:
            self._cache.popitem(last=False)

    async def _read(self, app: int, message_id: str) -> MessageFields | None:
        place = {"app": app, "message_id": message_id}
        rows = await self._database.fetch(SQL["message"], place)
        return MessageFields.from_json(rows[0][0]) if rows else None
