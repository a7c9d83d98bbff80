"""Promises for any body of the events webhook, from its bytes to Amplitude's event."""

import json
from typing import Any, Final

import orjson

from relay.errors import PayloadError
from relay.events.catalog import KINDS, NAME_SETS
from relay.events.mapping import MappedEvent, MappingPolicy, map_record
from relay.events.observation import read_observation
from relay.events.payload import parse_body, read_record
from relay.events.records import MessageFields, Record, fill_blank
from relay.events.shapes import sections_of
from relay.events.texts import json_of
from tests.fuzz.reasons import known

APP_ID: Final = "11111111-2222-4333-8444-555555555555"
RECEIVED_AT: Final = 1_767_261_906_412
MAX_CHARACTERS: Final = 1024
ABSURD_MS: Final = 4_102_444_800_000

POLICIES: Final = [
    MappingPolicy(APP_ID, KINDS, name_set, "device", "relay/1.2.3") for name_set in NAME_SETS
]

KEYS: Final = {
    *("event_type", "time", "insert_id", "library", "event_properties"),
    *("user_id", "device_id", "language"),
}
PROPERTIES: Final = {
    *("Distinct ID", "Message ID", "Message Name", "Message Title", "Message Contents"),
    *("message_type", "template_id", "subscription_id", "device_type", "language", "source"),
    *("page_name", "page_id", "target_name", "target_id", "failure_reason", "url"),
}


def check_events(data: bytes) -> None:
    """A body is broken as a whole, or each of its events has one fate, always the same."""
    elements = parsed(data)
    if elements is None:
        return
    fates = [fate(element, place) for place, element in enumerate(elements)]
    again = [fate(element, place) for place, element in enumerate(parsed(data) or [])]
    assert fates == again
    for place, element in enumerate(elements):
        kept = parsed(json_of(element))
        assert kept is not None
        assert isinstance(element, list) or [fate(one, place) for one in kept] == [fates[place]]


def check_shapes(data: bytes) -> None:
    """The fields of an object are found in it, or none are; none is invented."""
    for element in parsed(data) or []:
        if isinstance(element, dict):
            sections = sections_of(element)
            assert sections == sections_of(element)
            held = set(map(id, _values(element)))
            for section in sections:
                assert {id(value) for value in section.values()} <= held


def parsed(data: bytes) -> list[object] | None:
    """Return the elements of a body, None for a broken one."""
    try:
        return parse_body(data)
    except PayloadError as error:
        known(error.reason, {"broken_json"})
        return None


def fate(element: object, place: int) -> object:
    """Return an event's outcome; an event for Amplitude is checked against the contract."""
    try:
        record = read_record(element)
    except PayloadError as error:
        return known(error.reason, {"not_an_object", "no_kind", "unknown_kind"})
    _check_record(record)
    try:
        mapped = map_record(record, POLICIES[place % len(POLICIES)], received_at_ms=RECEIVED_AT)
    except PayloadError as error:
        return known(error.reason, {"foreign_app", "no_identity"})
    if isinstance(mapped, MappedEvent):
        _check_mapped(mapped)
    return mapped


def _check_record(record: Record) -> None:
    assert record.kind in KINDS
    assert MessageFields.from_json(record.message.to_json()) == record.message
    assert fill_blank(record, record.message) == record
    observation = read_observation(record, received_at=RECEIVED_AT)
    if observation is not None:
        assert 0 < observation.at <= RECEIVED_AT
        assert "\0" not in observation.subscription_id + (observation.external_id or "")


def _check_mapped(event: MappedEvent) -> None:
    sent: dict[str, Any] = json.loads(event.body)
    assert orjson.loads(event.body) == sent
    assert sent.keys() <= KEYS
    assert (sent["insert_id"], sent["time"]) == (event.insert_id, event.time_ms)
    assert 0 < sent.pop("time") < ABSURD_MS
    properties = sent.pop("event_properties")
    assert properties.keys() <= PROPERTIES
    for text in (*sent.values(), *properties.values()):
        assert isinstance(text, str)
        assert 1 <= len(text) <= MAX_CHARACTERS
    ids = [text for text in (event.user_id, event.device_id) if text is not None]
    assert ids == [sent[name] for name in ("user_id", "device_id") if name in sent]
    assert ids


def _values(element: dict[str, object]) -> list[object]:
    """Return every value within an element, at whatever depth."""
    found: list[object] = []
    rest: list[object] = [element]
    while rest:
        value = rest.pop()
        found.append(value)
        if isinstance(value, dict):
            rest += value.values()
    return found
