"""One request's events on their way: elements, then records, then Amplitude's events. Pure.

Each step works on a part of the batch at a time, so that the caller can let other requests run in
between; the steps of a part come in order: `read`, then `map`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.errors import PayloadError
from relay.events.mapping import Filtered, MappedEvent, MappingPolicy, map_record
from relay.events.payload import parse_body, read_record
from relay.events.records import Record
from relay.events.texts import json_of

HOOK = "events"


@dataclass(frozen=True, slots=True)
class QuarantinedBody:
    """A body, or an element of one, that could not be understood.

    Attributes:
        hook: The webhook it came by, `events` or `cohorts`.
        reason: A stable word.
        detail: A sentence for the operator.
        body: The bytes, unchanged.
    """

    hook: str
    reason: str
    detail: str
    body: bytes


@dataclass(slots=True)
class IngestBatch:
    """What one request brings: stored whole or not at all.

    Attributes:
        app: The app's number in the outbox.
        received_at: Epoch milliseconds.
        events: Amplitude's events.
        filtered: Number of events that are not wanted.
        quarantined: What could not be understood.
        messages: Message ids and their fields as JSON, to be kept for later blank events.
        quarantine_id: The quarantined body this was read from again. It leaves the quarantine in
            the same transaction; if it has left already, nothing is stored.
        users: The External ID each event names.
        elements: The elements of the body, in order.
        whole_body: The bytes of a body that is one event; None if it is an array.
        records: The elements by place, once read. One that is not understood has an error until
            `map`, and None afterwards.
    """

    app: int
    received_at: int
    events: list[MappedEvent] = field(default_factory=list)
    filtered: int = 0
    quarantined: list[QuarantinedBody] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    quarantine_id: int | None = None
    users: list[str | None] = field(default_factory=list)
    elements: Sequence[object] = ()
    whole_body: bytes | None = None
    records: list[Record | PayloadError | None] = field(default_factory=list)

    @classmethod
    def parse(cls, app: int, received_at: int, raw: bytes) -> "IngestBatch":
        """Return a batch of the elements of a decompressed body, yet to be read.

        Raises:
            PayloadError: `broken_json`, if it is not one JSON document.
        """
        elements = parse_body(raw)
        # An array within an array is kept without the outer one, so a retry reads its elements.
        is_one_event = len(elements) == 1 and not isinstance(elements[0], list)
        return cls(app, received_at, elements=elements, whole_body=raw if is_one_event else None)

    def parts(self, size: int) -> list[range]:
        """Return the places of the elements, `size` at a time."""
        places = range(len(self.elements))
        return [places[start : start + size] for start in places[::size]]

    def read(self, part: range) -> None:
        """Read the elements at some places into records, or into errors."""
        for place in part:
            try:
                self.records.append(read_record(self.elements[place]))
            except PayloadError as error:
                self.records.append(error)

    def map(
        self, part: range, policy: MappingPolicy, names_forgotten: Callable[[object], bool]
    ) -> None:
        """Map the records at some places to Amplitude's events, filter or quarantine them.

        Args:
            part: The places.
            policy: How the app wants its events.
            names_forgotten: Whether an element holds the id of a forgotten user anywhere. Such an
                element is filtered where another would be quarantined.
        """
        for place in part:
            record = self.records[place]
            if isinstance(record, Record):
                try:
                    mapped = map_record(record, policy, received_at_ms=self.received_at)
                except PayloadError as error:
                    self._quarantine(place, error, names_forgotten, record.external_id)
                    continue
                if isinstance(mapped, Filtered):
                    self.filtered += 1
                else:
                    self.events.append(mapped)
                    self.users.append(record.external_id)
            elif record is not None:
                self._quarantine(place, record, names_forgotten)

    def drop_users(self, is_forgotten: Callable[[str | None], bool]) -> None:
        """Drop the events and records of forgotten users; the events count as filtered."""
        kept = [
            event
            for event, user in zip(self.events, self.users, strict=True)
            if not is_forgotten(user)
        ]
        self.filtered += len(self.events) - len(kept)
        self.events = kept
        self.users = [user for user in self.users if not is_forgotten(user)]
        self.records = [
            record
            for record in self.records
            if isinstance(record, Record) and not is_forgotten(record.external_id)
        ]

    def empty(self) -> None:
        """Remove everything that would be stored."""
        self.events, self.messages, self.quarantined, self.filtered = [], [], [], 0

    def size_bytes(self) -> int:
        """Return the bytes of all bodies."""
        size_bytes = 0
        for event in self.events:
            size_bytes += len(event.body)
        for body in self.quarantined:
            size_bytes += len(body.body)
        return size_bytes

    def _quarantine(
        self,
        place: int,
        error: PayloadError,
        names_forgotten: Callable[[object], bool],
        user: str | None = None,
    ) -> None:
        self.records[place] = None  # an error that is kept keeps its whole call stack
        element = self.elements[place]
        if names_forgotten([element, user]):
            self.filtered += 1
            return
        body = json_of(element) if self.whole_body is None else self.whole_body
        self.quarantined.append(QuarantinedBody(HOOK, error.reason, error.detail, body))
