"""What is read of an upload before anything is believed of it."""

import codecs

import orjson
import pytest

from relay.ingest.upload_request import (
    END_BYTES,
    MAX_EVENTS,
    MAX_NAMED_KEYS,
    MAX_VALUES,
    JsonObject,
    Upload,
    UploadRequest,
    keys_named,
    parse_request,
    read_upload,
)
from relay.ingest.upload_responses import UploadResponse, too_large

KEY = "0123456789abcdef0123456789abcdef"


def refused(answer: object) -> tuple[int, object, object]:
    """Return status, error and missing field of a refusal."""
    assert isinstance(answer, UploadResponse)
    assert answer.body["code"] == answer.status
    return answer.status, answer.body["error"], answer.body.get("missing_field")


@pytest.mark.parametrize(
    ("content", "error", "field"),
    [
        (b"", "Missing request body", None),
        (b"{", "Invalid JSON request body", None),
        (b"[]", "Invalid JSON request body", None),
        (b'[{"api_key":"k","events":[{}]}]', "Invalid JSON request body", None),
        (b'{"api_key":NaN}', "Invalid JSON request body", None),
        (b"[" * 100_000, "Invalid JSON request body", None),
        (b"api_key=k&event=%7B%7D", "Invalid JSON request body", None),
        (b'{"events":[{}]}', "Request missing required field", "api_key"),
        (b'{"api_key":"","events":[{}]}', "Request missing required field", "api_key"),
        (b'{"api_key":"k"}', "Request missing required field", "events"),
        (b'{"api_key":"k","events":[]}', "Request missing required field", "events"),
    ],
)
def test_what_is_no_request_is_refused_in_amplitudes_words(
    content: bytes, error: str, field: str | None
) -> None:
    """SDKs read the words: a missing field makes them drop the request, the rest is tried again."""
    assert refused(parse_request(content)) == (400, error, field)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8, b"\r\n "])
def test_a_request_is_its_key_and_its_document(mark: bytes) -> None:
    """Nothing is believed of the key yet."""
    document: JsonObject = {"api_key": KEY, "events": [{"event_type": "e"}], "options": None}
    assert parse_request(mark + orjson.dumps(document)) == UploadRequest(KEY, document)


def test_a_key_that_is_no_text_is_nobodys() -> None:
    """It is refused as a wrong key, not as a broken request."""
    request = parse_request(b'{"api_key":7,"events":[{}]}')
    assert isinstance(request, UploadRequest)
    assert request.api_key == ""


def test_half_an_emoji_does_not_spoil_a_request() -> None:
    """SDKs clip texts by UTF-16 units, and JSON spells what is left as a lone escape."""
    request = parse_request(rb'{"api_key":"k","events":[{"event_type":"\ud83d"}]}')
    assert isinstance(request, UploadRequest)
    assert request.document["events"] == [{"event_type": "\N{REPLACEMENT CHARACTER}"}]


@pytest.mark.parametrize("mass", [b"0,", b"[" * 500 + b"]" * 500 + b",", b'{"":' * 99 + b"0,"])
def test_a_mass_of_tiny_values_is_too_large(mass: bytes) -> None:
    """Each costs twenty times its length in memory; an SDK cuts such a request in two."""
    values = mass.count(b",") + mass.count(b"[") + mass.count(b"{")
    body = b'{"api_key":"k","events":[%b0]}' % (mass * (MAX_VALUES // values + 1))
    assert parse_request(body) == too_large()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"events": "all"}, "Invalid event JSON"),
        ({"events": {"0": {}}}, "Invalid event JSON"),
        ({"events": [{}, 7]}, "Invalid event JSON"),
        ({"events": [{}], "options": []}, "Invalid field values on some events"),
        (
            {"events": [{}], "options": {"min_id_length": "1"}},
            "Invalid field values on some events",
        ),
        ({"events": [{}], "options": {"min_id_length": -1}}, "Invalid field values on some events"),
        (
            {"events": [{}], "options": {"min_id_length": True}},
            "Invalid field values on some events",
        ),
    ],
)
def test_events_must_be_objects_and_options_make_sense(
    given: dict[str, object], error: str
) -> None:
    """There is no event to name, so the request is refused as a whole."""
    assert refused(read_upload(given)) == (400, error, None)


@pytest.mark.parametrize(
    ("options", "length"),
    [(None, 5), ({}, 5), ({"min_id_length": None}, 5), ({"min_id_length": 1}, 1)],
)
def test_the_shortest_id_is_the_requests_own(options: object, length: int) -> None:
    """As SDKs send it, also where they send none."""
    assert read_upload({"events": [{}], "options": options}) == Upload([{}], length)


def test_events_are_counted() -> None:
    """2,000 are taken, one more is too large."""
    assert read_upload({"events": [{}] * MAX_EVENTS}) == Upload([{}] * MAX_EVENTS, 5)
    assert read_upload({"events": [{}] * (MAX_EVENTS + 1)}) == too_large()


@pytest.mark.parametrize("spelling", [b'"api_key":"%b"', b'"api_key" :\r\n\t"%b"'])
def test_the_key_of_a_large_body_is_found_at_either_end(spelling: bytes) -> None:
    """Only the events are long, and SDKs write the key before them or behind."""
    named = spelling % KEY.encode()
    events = b'"events":["%b"]' % (b"x" * 3 * END_BYTES)
    assert list(keys_named(b"{%b,%b}" % (named, events))) == [KEY]
    assert list(keys_named(b"{%b,%b}" % (events, named))) == [KEY]
    assert list(keys_named(b"{%b,%b,%b}" % (events, named, events))) == []


def test_a_small_body_names_its_key_once() -> None:
    """Both ends may be the same bytes."""
    assert list(keys_named(b'{"api_key":"%b"}' % KEY.encode())) == [KEY]


def test_a_body_may_not_try_a_great_many_keys() -> None:
    """Each costs a comparison."""
    assert len(list(keys_named(b'"api_key":"k",' * 1000))) == MAX_NAMED_KEYS
