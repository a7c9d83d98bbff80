"""What comes in: one request's events, and the keys by which repetitions are recognised."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import orjson

from relay.events.mapping import MappedEvent, scope_of

DAY_MS = 86_400_000
KEY_BYTES = 16
_SCOPED = b"scoped"


@dataclass(frozen=True, slots=True)
class QuarantinedBody:
    """A body or array member that could not be understood, as it came."""

    hook: str
    reason: str
    detail: str
    body: bytes


@dataclass(slots=True)
class IngestBatch:
    """What one request brought, stored whole or not at all.

    Attributes:
        app: The app's number.
        received_at: Epoch milliseconds.
        events: What Amplitude shall get.
        people: The External ID each of them names.
        filtered: How many events the configuration leaves out.
        quarantined: What could not be understood.
        messages: Message ids and their fields as JSON, for later blank events.
        quarantine_id: The quarantined body this was read from again; it leaves the
            quarantine in the same transaction, and if it has left already, nothing is stored.
    """

    app: int
    received_at: int
    events: list[MappedEvent] = field(default_factory=list)
    people: list[str | None] = field(default_factory=list)
    filtered: int = 0
    quarantined: list[QuarantinedBody] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    quarantine_id: int | None = None

    def empty(self) -> None:
        """Take everything out."""
        self.events, self.messages, self.quarantined, self.filtered = [], [], [], 0

    def size_bytes(self) -> int:
        """Return the bytes of all bodies."""
        size_bytes = 0
        for event in self.events:
            size_bytes += len(event.body)
        for body in self.quarantined:
            size_bytes += len(body.body)
        return size_bytes


class AppendResult(NamedTuple):
    """The answer to one intake, on disk.

    Attributes:
        accepted: Events that are new.
        duplicate: Events known before.
        is_void: Whether nothing was stored, as somebody had read the quarantined body first.
    """

    accepted: int
    duplicate: int
    is_void: bool = False


class DedupIndex:
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


def dedup_key(app: int, insert_id: str, scope: str | None = None) -> bytes:
    """Return the 16 bytes that stand for an event of an app, now and in 30 days.

    An insert id within a scope is never taken for the same one in another scope or in none.
    """
    if scope is None:
        return blake2b(b"%d:%b" % (app, insert_id.encode()), digest_size=KEY_BYTES).digest()
    named = orjson.dumps([app, scope, insert_id])
    return blake2b(named, digest_size=KEY_BYTES, person=_SCOPED).digest()


def dedup_keys(app: int, event: Mapping[str, object]) -> tuple[bytes, bytes]:
    """Return the two keys that an event may have: as one of OneSignal's, and as an SDK's.

    Raises:
        KeyError: If it has no insert id.
    """
    insert_id = str(event["insert_id"])
    device_id, user_id = (
        id_ if isinstance(id_, str) else None for id_ in map(event.get, ("device_id", "user_id"))
    )
    scope = scope_of(device_id, user_id)
    return dedup_key(app, insert_id), dedup_key(app, insert_id, scope)
