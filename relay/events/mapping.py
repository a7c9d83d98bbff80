"""One record to one Amplitude event, down to the bytes that are uploaded.

The same record, policy and time of receipt always give the same bytes. They are made once, before
the event is stored, and every attempt uploads them unchanged. They never contain a user's e-mail
address, phone number or push token, nor `ip`, `event_id` or `client_upload_time`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import orjson

from relay.errors import PayloadError
from relay.events.catalog import NameSet, event_name, message_type
from relay.events.records import Record
from relay.events.titles import choose_text

Anonymous = Literal["device", "drop"]
"""An event without a user is sent for its device alone, or filtered."""

# Source: Amplitude, HTTP V2 API, "Limits" (strings) and "Device IDs and user IDs" (both lists).
_MAX_CHARACTERS: Final = 1024
_REFUSED_IDS: Final = frozenset(
    {
        "anonymous",
        "nil",
        "none",
        "null",
        "n/a",
        "na",
        "undefined",
        "unknown",
        "",
        "00000000-0000-0000-0000-000000000000",
        "{}",
        "lmy47d",
        "0",
        "-1",
    }
)
_HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class MappingPolicy:
    """How one app wants its events.

    Attributes:
        app_id: OneSignal's id of the app; events of another app are refused.
        kinds: The selected kinds.
        name_set: The published names that events get.
        anonymous: How to treat an event without a user.
        library: The sender, as `relay/VERSION`.
    """

    app_id: str
    kinds: frozenset[str]
    name_set: NameSet
    anonymous: Anonymous
    library: str


class MappedEvent(NamedTuple):
    """One event as Amplitude will get it.

    Attributes:
        insert_id: Identifies a repetition, for relay and for Amplitude.
        device_id: The subscription; None if Amplitude would refuse its id.
        user_id: The user; None if there is none or Amplitude would refuse the id.
        event_type: Amplitude's name of the event.
        time_ms: When it happened, in UTC epoch milliseconds.
        body: The JSON object of the event, exactly as it is uploaded.
        scope: Deduplication scope of `insert_id`; None for OneSignal's events (the whole app).
    """

    insert_id: str
    device_id: str | None
    user_id: str | None
    event_type: str
    time_ms: int
    body: bytes
    scope: str | None = None


def scope_of(device_id: str | None, user_id: str | None) -> str:
    """Return the scope of an SDK's event: Amplitude compares insert ids per device."""
    return f"u:{user_id}" if device_id is None else f"d:{device_id}"


class Filtered(Enum):
    """Why an app does not want an event that was understood."""

    NOT_SELECTED = "not_selected"
    ANONYMOUS = "anonymous"


def map_record(
    record: Record, policy: MappingPolicy, *, received_at_ms: int
) -> MappedEvent | Filtered:
    """Return the Amplitude event of a record, or why the app does not want it.

    Args:
        record: The event as read.
        policy: How its app wants it.
        received_at_ms: Time of receipt, for an event without a time of its own.

    Raises:
        PayloadError: `foreign_app`, or `no_identity` if no id that Amplitude takes is left.
    """
    if not (record.app_id is None or _is_same_app(record.app_id, policy.app_id)):
        raise PayloadError("foreign_app", "The event belongs to another OneSignal app.")
    if record.kind not in policy.kinds:
        return Filtered.NOT_SELECTED
    user_id = _usable_id(record.external_id)
    if user_id is None and policy.anonymous == "drop":
        return Filtered.ANONYMOUS
    device_id = _usable_id(record.subscription_id)
    if user_id is None and device_id is None:
        raise PayloadError("no_identity", "The event has no user and no device Amplitude takes.")

    time_ms = received_at_ms if record.time_ms is None else record.time_ms
    insert_id = _insert_id(record, time_ms)
    event_type = event_name(record.kind, policy.name_set)
    language = record.languages[0] if record.languages else None
    texts = {
        "event_type": event_type,
        "user_id": user_id,
        "device_id": device_id,
        "insert_id": insert_id,
        "language": language,
        "library": policy.library,
    }
    properties = _properties(record, policy.name_set, language)
    body = orjson.dumps({**_present(texts), "time": time_ms, "event_properties": properties})
    return MappedEvent(insert_id, device_id, user_id, event_type, time_ms, body)


def _is_same_app(app_id: str, own: str) -> bool:
    # Nearly always equal unchanged; a template may add spaces, a hand-written setting capitals.
    return app_id == own or app_id.strip().lower() == own.lower()


def _properties(record: Record, name_set: NameSet, language: str | None) -> dict[str, str]:
    """Return the event properties by their published names.

    Source: OneSignal's Amplitude page, 2025, up to `source`; the rest are relay's own.
    """
    message = record.message
    return _present(
        {
            "Distinct ID": record.external_id,
            "Message ID": message.id,
            "Message Name": message.name,
            "Message Title": choose_text(message.title, record.languages),
            "Message Contents": choose_text(message.contents, record.languages),
            "message_type": message_type(record.kind, name_set),
            "template_id": message.template_id,
            "subscription_id": record.subscription_id,
            "device_type": record.device_type,
            "language": language,
            "source": "onesignal",
            "page_name": record.page_name,
            "page_id": record.page_id,
            "target_name": record.target_name,
            "target_id": record.target_id,
            "failure_reason": record.failure_reason,
            "url": message.url or message.app_url or message.web_url,
        }
    )


def _present(texts: Mapping[str, str | None]) -> dict[str, str]:
    # Hardly any text is too long, and every slice costs, even one that cuts nothing off.
    return {
        name: text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS]
        for name, text in texts.items()
        if text
    }


def is_refused_id(text: str) -> bool:
    """Return whether Amplitude refuses a text as an id, because it stands for no user."""
    return text.strip().lower() in _REFUSED_IDS


def _usable_id(text: str | None) -> str | None:
    if text is None or len(text) > _MAX_CHARACTERS or is_refused_id(text):
        return None
    return text


def _insert_id(record: Record, time_ms: int) -> str:
    """Return the event's own id, or a hash that is the same for a repetition."""
    if record.event_id is None:
        # Without id and time this is one event per kind, message, device and time of receipt.
        whose = record.subscription_id or record.external_id
        return _digest(orjson.dumps([record.kind, record.message.id, whose, time_ms]))
    # Past Amplitude's limit for texts: hashed whole, so that two long ids stay distinct.
    if len(record.event_id) > _MAX_CHARACTERS:
        return _digest(record.event_id.encode())
    return record.event_id


def _digest(described: bytes) -> str:
    return blake2b(described, digest_size=_HASH_BYTES).hexdigest()
