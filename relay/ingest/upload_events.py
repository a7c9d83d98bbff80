"""Events of an upload: checked as Amplitude checks them, then prepared for storage. Pure.

An event is forwarded unchanged, with three exceptions: `"ip":"$remote"` is removed, as it would
place every user where relay runs; an event without `time` gets its time of receipt, as from
Amplitude, so that an outage does not move it; one without `insert_id` gets one, once.

Source: Amplitude, HTTP V2 and Batch Event Upload references (2026), and answers of the live
service that its SDKs are made for.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

import orjson

from relay.errors import PayloadError
from relay.events.mapping import MappedEvent, is_refused_id, scope_of
from relay.ingest.upload_request import JsonObject, Upload
from relay.ingest.upload_responses import (
    UploadResponse,
    invalid_event_fields,
    invalid_id_lengths,
    missing_event_fields,
)

MAX_ID_LENGTH: Final = 1_024
REMOTE: Final = "$remote"
_HASH_BYTES: Final = 16

_IDS: Final = ("user_id", "device_id")
_TYPES: Final[Mapping[str, frozenset[type]]] = {
    **dict.fromkeys(
        (
            "event_type", "insert_id", "user_agent", "app_version", "platform", "os_name",
            "os_version", "device_brand", "device_manufacturer", "device_model", "carrier",
            "country", "region", "city", "dma", "language", "productId", "revenueType",
            "currency", "ip", "idfa", "idfv", "adid", "android_id", "android_app_set_id",
            "partner_id", "library", "version_name", *_IDS,
        ),
        frozenset({str}),
    ),
    **dict.fromkeys(("time", "quantity", "event_id", "session_id"), frozenset({int})),
    **dict.fromkeys(
        ("price", "revenue", "location_lat", "location_lng"), frozenset({int, float})
    ),
    **dict.fromkeys(
        (
            "event_properties", "user_properties", "groups", "group_properties", "plan",
            "ingestion_metadata",
        ),
        frozenset({dict}),
    ),
    "$skip_user_properties_sync": frozenset({bool}),
}  # fmt: skip


class _Flaw(NamedTuple):
    """A bad field of one event, by the event's place in the request."""

    place: int
    field: str


class Receipt(NamedTuple):
    """One receipt of a request.

    Attributes:
        at_ms: Epoch milliseconds.
        nonce: Unique bytes, from which events without an id and a time get theirs.
    """

    at_ms: int
    nonce: bytes


def check_events(upload: Upload, *, is_batch: bool) -> list[JsonObject] | UploadResponse:
    """Return the accepted events, or the answer that refuses them all.

    The Batch API reports all bad events, and drops an id of a wrong length if the event has
    another; HTTP V2 reports the first bad event of each field, and refuses such ids.
    """
    events = list(enumerate(upload.events))
    # Missing fields are reported before invalid ones, and those before ids of a wrong length: an
    # answer has one kind of flaw, as Amplitude's have.
    missing = [flaw for place, event in events for flaw in _missing(place, event)]
    if missing:
        return missing_event_fields(_by_field(missing, names_all=is_batch))
    invalid = [flaw for place, event in events for flaw in _invalid(place, event)]
    if invalid:
        return invalid_event_fields(_by_field(invalid, names_all=is_batch))
    wrong = [
        _Flaw(place, name)
        for place, event in events
        for name in _ids_of_wrong_length(event, upload.min_id_length)
    ]
    if not is_batch:
        return invalid_id_lengths(_by_field(wrong, names_all=False)) if wrong else upload.events
    return _without_ids(upload.events, wrong)


def map_events(events: Iterable[JsonObject], receipt: Receipt) -> Iterator[MappedEvent]:
    """Yield checked events with the bytes to upload.

    An insert id made for an event with a time is a hash of its content, so a repeated request gets
    the same ids again; equal events within one request are distinguished by their order. A
    repetition of an event without id and time cannot be recognised: it counts as another event, as
    with Amplitude.

    Raises:
        PayloadError: `too_deep`, if an event cannot be written as JSON again.
    """
    alike: Counter[str] = Counter()
    for place, given in enumerate(events):
        event = dict(given)
        if event.get("ip") == REMOTE:
            del event["ip"]
        has_time = event.get("time") is not None
        if not event.get("insert_id"):
            if has_time:
                name = _digest(_encode({**event, "insert_id": None}, orjson.OPT_SORT_KEYS))
            else:
                name = _digest(b"%b %d" % (receipt.nonce, place))
            alike[name] += 1
            is_first = alike[name] == 1
            event["insert_id"] = name if is_first else _digest(f"{name} {alike[name]}".encode())
        if not has_time:
            event["time"] = receipt.at_ms
        yield _mapped(event)


def _mapped(event: JsonObject) -> MappedEvent:
    device_id, user_id = _text_of(event, "device_id"), _text_of(event, "user_id")
    time_ms = event["time"]
    return MappedEvent(
        insert_id=str(event["insert_id"]),
        device_id=device_id,
        user_id=user_id,
        event_type=str(event["event_type"]),
        time_ms=time_ms if isinstance(time_ms, int) else 0,
        body=_encode(event),
        scope=scope_of(device_id, user_id),
    )


def _text_of(event: JsonObject, name: str) -> str | None:
    value = event.get(name)
    return value if isinstance(value, str) else None


def _missing(place: int, event: JsonObject) -> Iterator[_Flaw]:
    if event.get("event_type") in (None, ""):
        yield _Flaw(place, "event_type")
    if all(event.get(name) is None for name in _IDS):
        yield _Flaw(place, "user_id")


def _invalid(place: int, event: JsonObject) -> Iterator[_Flaw]:
    for name, value in event.items():
        types = _TYPES.get(name)
        if types is None or value is None:
            continue
        is_nobody = name in _IDS and isinstance(value, str) and is_refused_id(value)
        if type(value) not in types or is_nobody:
            yield _Flaw(place, name)


def _ids_of_wrong_length(event: JsonObject, min_length: int) -> list[str]:
    ids = ((name, _text_of(event, name)) for name in _IDS)
    return [
        name
        for name, text in ids
        if text is not None and not min_length <= len(text) <= MAX_ID_LENGTH
    ]


def _without_ids(
    events: list[JsonObject], wrong: Iterable[_Flaw]
) -> list[JsonObject] | UploadResponse:
    """Drop ids of a wrong length, or refuse the request if an event has no other id."""
    names: dict[int, list[str]] = {}
    for flaw in wrong:
        names.setdefault(flaw.place, []).append(flaw.field)
    kept = list(events)
    bare: list[_Flaw] = []
    for place, left_out in names.items():
        event = kept[place] = {k: v for k, v in events[place].items() if k not in left_out}
        if all(event.get(name) is None for name in _IDS):
            bare.extend(_Flaw(place, name) for name in left_out)
    return invalid_id_lengths(_by_field(bare, names_all=True)) if bare else kept


def _by_field(flaws: Iterable[_Flaw], *, names_all: bool) -> dict[str, list[int]]:
    """Return the places of bad events by field: all of them, or only the first."""
    places: dict[str, list[int]] = {}
    for flaw in flaws:
        named = places.setdefault(flaw.field, [])
        if names_all or not named:
            named.append(flaw.place)
    return places


def _encode(event: JsonObject, option: int | None = None) -> bytes:
    """Encode an event; the fast encoder has no numbers of more than 64 bits.

    Raises:
        PayloadError: `too_deep`, if it is nested many times deeper than Amplitude takes.
    """
    try:
        # A copy, because orjson's own result keeps its whole write buffer, several times as large.
        return bytes(memoryview(orjson.dumps(event, option=option)))
    except TypeError:
        is_sorted = option == orjson.OPT_SORT_KEYS
    try:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"), sort_keys=is_sorted)
    except RecursionError as error:
        raise PayloadError("too_deep", "The event is nested too deeply.") from error
    return text.encode()


def _digest(described: bytes) -> str:
    return blake2b(described, digest_size=_HASH_BYTES).hexdigest()
