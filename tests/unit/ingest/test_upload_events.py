"""What of an event is refused, and what it is when it is kept."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from relay.errors import PayloadError
from relay.events.mapping import MappedEvent
from relay.ingest.upload_events import Receipt, check_events, map_events
from relay.ingest.upload_request import DEFAULT_MIN_ID_LENGTH, JsonObject, Upload
from relay.ingest.upload_responses import UploadResponse

NOW_MS = 1_800_000_000_000
TIME_MS = 1_767_261_906_412


def given(**over: object) -> JsonObject:
    """Return a good event; `over` replaces its keys."""
    return {
        "user_id": "user-1",
        "device_id": "device-1",
        "event_type": "Opened",
        "time": TIME_MS,
        "insert_id": "insert-1",
        **over,
    }


def check(
    *events: JsonObject, is_batch: bool = False, min_id_length: int = DEFAULT_MIN_ID_LENGTH
) -> Mapping[str, object] | list[JsonObject]:
    """Return the answer's body, or the events."""
    checked = check_events(Upload(list(events), min_id_length), is_batch=is_batch)
    return checked.body if isinstance(checked, UploadResponse) else checked


def mapped(*events: JsonObject, nonce: bytes = b"nonce", at_ms: int = NOW_MS) -> list[MappedEvent]:
    """Return events as they are kept."""
    return list(map_events(events, Receipt(at_ms, nonce)))


def sent(*events: JsonObject) -> list[Any]:
    """Return events as they are uploaded."""
    return [orjson.loads(event.body) for event in mapped(*events)]


def ids(*events: JsonObject, nonce: bytes = b"nonce", at_ms: int = NOW_MS) -> list[str]:
    """Return insert ids of kept events."""
    return [event.insert_id for event in mapped(*events, nonce=nonce, at_ms=at_ms)]


@pytest.mark.parametrize(
    ("over", "key", "field"),
    [
        ({"event_type": None}, "events_with_missing_fields", "event_type"),
        ({"event_type": ""}, "events_with_missing_fields", "event_type"),
        ({"user_id": None, "device_id": None}, "events_with_missing_fields", "user_id"),
        ({"event_type": ["a"]}, "events_with_invalid_fields", "event_type"),
        ({"time": "2026-01-01T10:05:06Z"}, "events_with_invalid_fields", "time"),
        ({"time": 1767261906.412}, "events_with_invalid_fields", "time"),
        ({"time": True}, "events_with_invalid_fields", "time"),
        ({"event_properties": []}, "events_with_invalid_fields", "event_properties"),
        ({"price": "9.99"}, "events_with_invalid_fields", "price"),
        ({"insert_id": 7}, "events_with_invalid_fields", "insert_id"),
        ({"user_id": 12345}, "events_with_invalid_fields", "user_id"),
        ({"user_id": "Anonymous"}, "events_with_invalid_fields", "user_id"),
        ({"device_id": ""}, "events_with_invalid_fields", "device_id"),
        (
            {"device_id": "00000000-0000-0000-0000-000000000000"},
            "events_with_invalid_fields",
            "device_id",
        ),
        ({"user_id": "bob"}, "events_with_invalid_id_lengths", "user_id"),
        ({"device_id": "x" * 1025}, "events_with_invalid_id_lengths", "device_id"),
    ],
)
def test_one_bad_event_refuses_the_request_and_is_named(
    over: JsonObject, key: str, field: str
) -> None:
    """An SDK drops the event that is named and sends the others again."""
    body = check(given(), given(**over))
    assert isinstance(body, dict)
    assert (body["code"], body[key]) == (400, {field: [1]})


@pytest.mark.parametrize(("is_batch", "named"), [(False, [1]), (True, [1, 2])])
@pytest.mark.parametrize(
    ("over", "key", "field"),
    [
        ({"event_type": None}, "events_with_missing_fields", "event_type"),
        ({"time": "x"}, "events_with_invalid_fields", "time"),
        ({"user_id": "bob", "device_id": None}, "events_with_invalid_id_lengths", "user_id"),
    ],
)
def test_only_the_batch_api_names_all_bad_events(
    over: JsonObject, key: str, field: str, *, is_batch: bool, named: list[int]
) -> None:
    """HTTP V2 names the first of each field."""
    body = check(given(), given(**over), given(**over), is_batch=is_batch)
    assert isinstance(body, dict)
    assert body[key] == {field: named}


def test_the_batch_api_leaves_a_short_id_out() -> None:
    """As long as the event has another one, which meets the rule."""
    assert check(given(user_id="bob"), given(), is_batch=True) == [
        {name: value for name, value in given().items() if name != "user_id"},
        given(),
    ]
    body = check(given(), given(user_id="bob", device_id=None), is_batch=True)
    assert isinstance(body, dict)
    assert body["events_with_invalid_id_lengths"] == {"user_id": [1]}


@pytest.mark.parametrize("is_batch", [False, True])
def test_a_request_may_allow_shorter_ids(*, is_batch: bool) -> None:
    """That is what `options.min_id_length` is for."""
    event = given(user_id="bob")
    assert check(event, is_batch=is_batch, min_id_length=3) == [event]


def test_an_event_goes_on_as_it_came() -> None:
    """With what relay knows nothing of, in its order, and with all digits."""
    event = given(
        event_properties={"deep": {"list": [1, 2.5, None, True, "höme 👋"]}},
        library="amplitude-python/1.3.0",
        event_id=7,
        unknown=[],
        ip="203.0.113.9",
        user_properties={"$set": {"plan": "paid"}},
    )
    (kept,) = mapped(event)
    assert kept.body == orjson.dumps(event)
    assert kept[:5] == ("insert-1", "device-1", "user-1", "Opened", TIME_MS)


def test_numbers_keep_digits_that_64_bits_have_not() -> None:
    """The quick encoder would refuse them."""
    (kept,) = mapped(given(event_properties={"n": 10**30}))
    assert b'"n":1000000000000000000000000000000' in kept.body


def test_a_request_to_take_the_senders_address_is_taken_out() -> None:
    """Amplitude would take relay's, and place everybody there."""
    assert sent(given(ip="$remote")) == [given()]


def test_an_event_without_time_happened_when_it_came() -> None:
    """Amplitude would say the same of it; an outage behind relay must not move it."""
    assert sent(given(time=None), given()) == [given(time=NOW_MS), given()]


def test_an_insert_id_is_made_from_what_the_event_says() -> None:
    """So a repeated request is recognised, whatever its order of keys and of events."""
    first, second = given(insert_id=None), given(insert_id="", event_type="Closed")
    turned = dict(reversed(first.items()))
    del turned["insert_id"]
    once = ids(first, second, nonce=b"a")
    assert [len(id_) for id_ in once] == [32, 32]
    assert ids(second, {**turned, "insert_id": None}, nonce=b"b", at_ms=NOW_MS + 9) == once[::-1]


def test_absent_null_and_empty_are_the_same_lack_of_an_insert_id() -> None:
    """A repetition may spell it another way."""
    bare = given()
    del bare["insert_id"]
    assert ids(bare) == ids(given(insert_id=None)) == ids(given(insert_id=""))


def test_the_sender_being_asked_for_makes_no_other_event() -> None:
    """What is taken out does not count."""
    assert ids(given(insert_id=None, ip="$remote")) == ids(given(insert_id=None))


def test_equal_events_of_one_request_are_not_repetitions() -> None:
    """They stay as many as they are, and the same ones when the request comes again."""
    twice = [given(insert_id=None)] * 3
    assert len(set(ids(*twice))) == 3
    assert ids(*twice) == ids(*twice, nonce=b"another", at_ms=NOW_MS + 1)


def test_an_event_that_says_neither_which_nor_when_is_always_another() -> None:
    """Two clicks of one user look the same; only their receipts tell them apart."""
    clicks = [given(insert_id=None, time=None)] * 2
    first, again = ids(*clicks), ids(*clicks, nonce=b"another")
    assert len({*first, *again}) == 4


def test_the_insert_id_of_a_device_is_no_other_devices() -> None:
    """Nor a user's, nor that of an event of OneSignal's: Amplitude tells them apart as well."""
    kept = mapped(
        given(), given(device_id="device-2"), given(device_id=None), given(user_id="user-2")
    )
    assert [event.scope for event in kept] == ["d:device-1", "d:device-2", "u:user-1", "d:device-1"]


def test_an_event_nested_beyond_reason_is_refused() -> None:
    """Amplitude takes 40 levels; what could not be written again would be lost."""
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(PayloadError):
        mapped(given(event_properties={"deep": deep}))
