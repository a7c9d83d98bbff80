"""Uploads of any shape: judged as Amplitude's stand-in judges them, and stored unchanged."""

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.ingest.upload_events import Receipt, check_events, map_events
from relay.ingest.upload_request import (
    BATCH,
    HTTP_V2,
    JsonObject,
    UploadApi,
    UploadRequest,
    parse_request,
    read_upload,
)
from relay.ingest.upload_responses import UploadResponse, invalid_api_key
from relay.outbox.dedup import dedup_key, dedup_keys
from relay.sandbox.amplitude import uploads, validation
from relay.sandbox.common.replies import Answer

KEY = "key-of-the-project"

ODD: st.SearchStrategy[object] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.just([]),
    st.just({"a": [1]}),
)
IDS = st.one_of(
    st.sampled_from(["user-12345", "bob", " NULL ", "", "x" * 1025, "device-1"]),
    ODD,
)
TIMES = st.one_of(st.integers(0, 2**42), ODD)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "user_id": IDS,
    "device_id": IDS,
    "event_type": st.one_of(st.text(min_size=1, max_size=8), ODD),
    "time": TIMES,
    "insert_id": st.one_of(st.text(max_size=8), ODD),
    "ip": st.sampled_from(["$remote", "203.0.113.9", None]),
    "event_properties": st.one_of(st.dictionaries(st.text(max_size=4), ODD, max_size=3), ODD),
    "price": st.one_of(st.floats(0, 100), ODD),
    "session_id": TIMES,
    "$skip_user_properties_sync": ODD,
    "unknown": ODD,
}
GOOD = st.fixed_dictionaries(
    {"user_id": st.just("user-12345"), "event_type": st.just("e")},
    optional={
        "device_id": st.sampled_from(["device-1", "device-2"]),
        "time": st.integers(0, 2),
        "insert_id": st.sampled_from(["", "a", "b", None]),
        "ip": st.just("$remote"),
        "event_properties": st.dictionaries(st.text(max_size=2), ODD, max_size=2),
    },
)
EVENTS = st.lists(
    st.one_of(GOOD, st.fixed_dictionaries({}, optional=FIELDS), ODD), min_size=1, max_size=4
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "api_key": st.one_of(st.just(KEY), st.just(KEY), ODD),
        "events": st.one_of(EVENTS, EVENTS, ODD),
        "options": st.one_of(
            st.fixed_dictionaries({"min_id_length": st.one_of(st.integers(-1, 6), ODD)}), ODD
        ),
    },
)


def judged(content: bytes, api: UploadApi) -> UploadResponse | list[JsonObject]:
    """Return what relay's upload API makes of a body: the events, or their rejection."""
    request = parse_request(content)
    if not isinstance(request, UploadRequest):
        return request
    if request.api_key != KEY:
        return invalid_api_key(request.api_key)
    upload = read_upload(request.document)
    if isinstance(upload, UploadResponse):
        return upload
    return check_events(upload, is_batch=api.is_batch)


def expected(content: bytes, api: UploadApi) -> Answer | list[JsonObject]:
    """Return what the stand-in makes of it."""
    wire = uploads.RawUpload("POST", api.path, "application/json", False, len(content), content)  # noqa: FBT003
    upload = uploads.parse_upload(wire, KEY.__eq__)
    return upload if isinstance(upload, Answer) else validation.check_events(upload)


@settings(max_examples=400, deadline=None)
@given(REQUESTS, st.sampled_from([HTTP_V2, BATCH]))
def test_relay_judges_a_request_as_amplitude_does(request: JsonObject, api: UploadApi) -> None:
    """The stand-in's rules were written independently of relay's."""
    content = orjson.dumps(request)
    own, other = judged(content, api), expected(content, api)
    if isinstance(own, UploadResponse):
        assert isinstance(other, Answer)
        told = orjson.loads(other.body)
        if str(told.get("error")).startswith("Invalid API key: "):
            told["error"] = own.body["error"]  # each repeats a key that is no text in its own way
        assert (own.status, own.body) == (other.status, told)
    else:
        assert own == other


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | REQUESTS.map(orjson.dumps), st.integers(0, 60), st.binary())
def test_any_bytes_are_answered(content: bytes, place: int, more: bytes) -> None:
    """A malformed body is rejected; it never breaks the door."""
    spoilt = content[:place] + more + content[place:]
    for api in (HTTP_V2, BATCH):
        own = judged(spoilt, api)
        assert isinstance(own, list) or 400 <= own.status < 500


@settings(deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=6), st.integers(0, 2**42))
def test_events_are_stored_unchanged(events: list[JsonObject], now_ms: int) -> None:
    """Except for three fields: insert id, time and address, where missing."""
    for given_, kept in zip(events, map_events(events, Receipt(now_ms, b"1")), strict=True):
        body: JsonObject = json.loads(kept.body)
        assert body["insert_id"] == (given_.get("insert_id") or kept.insert_id)
        assert body["time"] == given_.get("time", now_ms) == kept.time_ms
        assert (kept.user_id, kept.device_id) == (given_["user_id"], given_.get("device_id"))
        for each in (body, changed := dict(given_)):
            each.pop("insert_id", None)
            each.pop("time", None)
        changed.pop("ip", None)
        assert body == changed


@settings(deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=6))
def test_a_dedup_key_can_be_computed_from_stored_bytes(events: list[JsonObject]) -> None:
    """So damage to a stored event is found; and it never equals the key of a OneSignal event."""
    for kept in map_events(events, Receipt(5, b"1")):
        key = dedup_key(7, kept.insert_id, kept.scope)
        assert dedup_keys(7, json.loads(kept.body)) == (dedup_key(7, kept.insert_id), key)
        assert key != dedup_key(7, kept.insert_id)


@settings(deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=6))
def test_a_repeated_request_has_the_same_events(events: list[JsonObject]) -> None:
    """Same bytes and ids, except for events without insert id and time, which are distinct."""
    first = list(map_events(events, Receipt(5, b"1")))
    again = list(map_events(events, Receipt(6, b"2")))
    for given_, one, other in zip(events, first, again, strict=True):
        has_time = given_.get("time") is not None
        assert (one.body == other.body) == has_time
        assert (one.insert_id == other.insert_id) == (has_time or bool(given_.get("insert_id")))
    made = [
        one.insert_id
        for given_, one in zip(events, first, strict=True)
        if not given_.get("insert_id")
    ]
    assert len(set(made)) == len(made)
