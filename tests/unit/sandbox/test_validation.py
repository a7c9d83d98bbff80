"""The stand-in's checks of single events."""

import orjson
import pytest

from relay.sandbox.amplitude.uploads import BATCH_PATH, HTTPAPI_PATH, Upload
from relay.sandbox.amplitude.validation import BANNED_IDS, check_events
from relay.sandbox.common.replies import Answer, JsonObject

GOOD: JsonObject = {
    "event_type": "[OneSignal] Push Sent",
    "user_id": "user-1",
    "device_id": "device-1",
    "time": 1_767_261_906_412,
    "insert_id": "i-1",
    "event_properties": {"source": "onesignal"},
}


def upload(*events: JsonObject, path: str = HTTPAPI_PATH, min_id_length: int = 5) -> Upload:
    """Return a request with `events`."""
    return Upload(path, "key", list(events), min_id_length, frozenset())


def rejection(checked: Answer | list[JsonObject]) -> JsonObject:
    """Return the body of a rejection."""
    assert isinstance(checked, Answer)
    assert checked.status == 400
    body = orjson.loads(checked.body)
    assert isinstance(body, dict)
    return body


def test_good_events_pass_unchanged() -> None:
    """Valid events are stored unchanged."""
    assert check_events(upload(GOOD)) == [GOOD]


def test_missing_event_type_names_only_the_first_on_httpapi() -> None:
    """The live HTTP API names the first failing index of a field and no other."""
    bare: JsonObject = {"user_id": "user-1"}
    assert rejection(check_events(upload(GOOD, bare, bare))) == {
        "code": 400,
        "error": "Request missing required field",
        "events_with_missing_fields": {"event_type": [1]},
    }


def test_missing_event_type_names_all_on_batch() -> None:
    """The Batch API names every failing index."""
    bare: JsonObject = {"user_id": "user-1"}
    body = rejection(check_events(upload(GOOD, bare, bare, path=BATCH_PATH)))
    assert body["events_with_missing_fields"] == {"event_type": [1, 2]}


def test_no_id_is_a_missing_user_id() -> None:
    """An event without ids is rejected under user_id."""
    body = rejection(check_events(upload({"event_type": "x"})))
    assert body["events_with_missing_fields"] == {"user_id": [0]}


def test_missing_comes_before_invalid() -> None:
    """One response has one kind of mistake."""
    body = rejection(check_events(upload({**GOOD, "time": "x"}, {"user_id": "user-1"})))
    assert "events_with_missing_fields" in body
    assert "events_with_invalid_fields" not in body


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00Z", 1.5, 1.0, True, [1]])
def test_time_that_is_no_integer_is_invalid(time: object) -> None:
    """Amplitude accepts milliseconds only as an integer."""
    assert rejection(check_events(upload(GOOD, {**GOOD, "time": time}))) == {
        "code": 400,
        "error": "Invalid field values on some events",
        "events_with_invalid_fields": {"time": [1]},
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_id", 12345),
        ("event_properties", "text"),
        ("insert_id", 7),
        ("event_type", 7),
        ("price", "1"),
        ("$skip_user_properties_sync", 1),
    ],
)
def test_wrong_types_are_invalid(name: str, value: object) -> None:
    """A value of the wrong JSON type is named by its field."""
    body = rejection(check_events(upload({**GOOD, name: value})))
    assert body["events_with_invalid_fields"] == {name: [0]}


@pytest.mark.parametrize("identity", [*sorted(BANNED_IDS), "NULL", "Unknown", "LMY47D"])
@pytest.mark.parametrize("name", ["user_id", "device_id"])
def test_banned_ids_are_invalid_in_any_case(name: str, identity: str) -> None:
    """Placeholders are no ids, in any spelling."""
    body = rejection(check_events(upload({**GOOD, name: identity}, min_id_length=1)))
    assert body["events_with_invalid_fields"] == {name: [0]}


def test_short_id_rejects_the_request_on_httpapi() -> None:
    """The live HTTP API answers 400 for ids below the minimum length."""
    assert rejection(check_events(upload(GOOD, {**GOOD, "user_id": "42"}))) == {
        "code": 400,
        "error": "Invalid id length for user_id or device_id",
        "events_with_invalid_id_lengths": {"user_id": [1]},
    }


def test_min_id_length_is_honoured() -> None:
    """A request may ask for shorter ids."""
    event: JsonObject = {**GOOD, "user_id": "7"}
    assert check_events(upload(event, min_id_length=1)) == [event]


def test_overlong_id_rejects_the_request_on_httpapi() -> None:
    """Ids are limited to 1,024 characters."""
    body = rejection(check_events(upload({**GOOD, "device_id": "d" * 1025})))
    assert body["events_with_invalid_id_lengths"] == {"device_id": [0]}


def test_short_id_is_stripped_on_batch() -> None:
    """The Batch API removes a short id and keeps the event."""
    (kept,) = _events(check_events(upload({**GOOD, "user_id": "42"}, path=BATCH_PATH)))
    assert kept == {name: value for name, value in GOOD.items() if name != "user_id"}


def test_batch_rejects_an_event_left_without_id() -> None:
    """An event whose only id is too short has none."""
    short: JsonObject = {"event_type": "x", "user_id": "42"}
    body = rejection(check_events(upload(GOOD, short, short, path=BATCH_PATH)))
    assert body["events_with_invalid_id_lengths"] == {"user_id": [1, 2]}


def _events(checked: Answer | list[JsonObject]) -> list[JsonObject]:
    assert not isinstance(checked, Answer)
    return checked
