import copy
import json
from collections.abc import Callable

import orjson
import pytest

from relay.errors import PayloadError
from relay.events.payload import parse_body, read_record
from relay.events.records import MessageFields, Record
from tests.unit.events import bodies
from tests.unit.events.bodies import APP_ID, Body

PUSH_CLICKED = Record(
    kind="message.push.clicked",
    event_id="5d0f6a9e-3f0a-4b57-9b1e-0c9be1a4d101",
    app_id=APP_ID,
    subscription_id="a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
    external_id="user-10042",
    device_type="iOS",
    time_ms=1_767_261_906_412,
    languages=("de", "de"),
    message=MessageFields(
        id="9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01",
        name="new-year-offer",
        title="Frohes neues Jahr",
        contents="20% auf alles bis Sonntag",
        template_id="e1a2b3c4-0d0d-4e4e-8f8f-aabbccddeeff",
        app_url="shop://offers/ny",
        web_url="https://shop.example/ny",
    ),
)


def _read(body: object) -> Record:
    (element,) = parse_body(orjson.dumps(body))
    return read_record(element)


# Bodies.


@pytest.mark.parametrize(
    ("raw", "elements"),
    [
        (b'{"a":1}', [{"a": 1}]),
        (b'\xef\xbb\xbf {"a":1}\n', [{"a": 1}]),
        (b'[{"a":1},2]', [{"a": 1}, 2]),
        (b"[]", []),
        (b"null", [None]),
        (b"7", [7]),
        (b'"text"', ["text"]),
    ],
)
def test_body_is_one_element_or_an_array_of_them(raw: bytes, elements: list[object]) -> None:
    """Every element of any JSON can be accounted for."""
    assert parse_body(raw) == elements


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"a":}',
        b'{"a":"say "hi""}',
        b'{"a":"line\nbreak"}',
        b'{"a":"line\nbreak \\ud83d"}',
        b'{"a":NaN}',
        b'{"a":"\\ud83d","b":NaN}',
        b'{"a":"\\ud83d","b":1e999}',
        b'{"a":1}{"a":2}',
        b'{"a":1,}',
        b'"\xff"',
        b'"\\ud83d\xff"',
        '{"a":1}'.encode("utf-16"),
        b"[" * 100_000,
        b'["\\ud83d",' + b"[" * 100_000,
        b'["\\ud83d",' + b"[" * 100_000 + b"]" * 100_001,
        b"9" * 5_000,
    ],
)
def test_broken_body_is_rejected_with_a_reason(raw: bytes) -> None:
    """Invalid JSON is never parsed in part."""
    with pytest.raises(PayloadError) as caught:
        parse_body(raw)
    assert caught.value.reason == "broken_json"


def test_reason_of_a_broken_body_quotes_nothing() -> None:
    """The position of the error is named, the text around it is not."""
    with pytest.raises(PayloadError) as caught:
        parse_body(b'{"secret":"x" "y"}')
    assert "line 1, column 15" in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'"cut \\ud83d"', "cut \ufffd"),
        (b'"cut \\uD83D"', "cut \ufffd"),
        (b'"\\ude00 low"', "\ufffd low"),
        (b'"\\ud83d\\ude00 whole \\ud83d"', "\U0001f600 whole \ufffd"),
        (b'"\\\\ud83d no escape \\ud83d"', "\\ud83d no escape \ufffd"),
        (b'"\\ud83d\\ud83d"', "\ufffd\ufffd"),
        (b'"\\\\ud83d"', "\\ud83d"),
    ],
)
def test_half_an_emoji_is_replaced_and_the_event_understood(raw: bytes, text: str) -> None:
    """OneSignal clips contents at 50 characters and may cut an emoji in two."""
    assert parse_body(raw) == [text]


@pytest.mark.parametrize(
    "number",
    [2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**19, 123456789012345678901234567890],
)
def test_long_numbers_keep_all_their_digits(number: int) -> None:
    """An unquoted numeric id is the same id, however long."""
    assert parse_body(f'{{"id":{number}}}'.encode()) == [{"id": number}]


# Shapes.


@pytest.mark.parametrize(
    "shape", [bodies.flat, bodies.grouped, bodies.snake, bodies.unquoted, copy.deepcopy]
)
def test_every_shape_gives_the_same_record(shape: Callable[[Body], Body]) -> None:
    """Nested, flat, grouped and snake bodies of one event give the same record."""
    assert _read(shape(bodies.PUSH_CLICKED)) == PUSH_CLICKED


@pytest.mark.parametrize("shape", [bodies.flat, bodies.grouped, bodies.snake, copy.deepcopy])
@pytest.mark.parametrize(
    "body",
    [bodies.EMAIL_OPENED, bodies.SMS_UNDELIVERED, bodies.IAM_CLICKED, bodies.PUSH_FAILED],
)
def test_every_channel_reads_the_same_in_every_shape(
    shape: Callable[[Body], Body], body: Body
) -> None:
    """No channel depends on the shape its template chose."""
    assert _read(shape(body)) == _read(body)


@pytest.mark.parametrize("words", [bodies.objects, bodies.printed])
@pytest.mark.parametrize("shape", [bodies.flat, bodies.grouped, bodies.snake, copy.deepcopy])
def test_words_by_language_survive_every_shape(
    words: Callable[[Body], Body], shape: Callable[[Body], Body]
) -> None:
    """A title may be an object or a printed object, in any shape."""
    message = _read(shape(words(bodies.PUSH_CLICKED))).message
    assert message.title == {"en": "English Frohes neues Jahr", "de": "Frohes neues Jahr"}


def test_in_app_fields_are_read() -> None:
    """Page and target of an in-app click are known."""
    record = _read(bodies.IAM_CLICKED)
    assert record.page_name == "Card 2"
    assert record.page_id == "8f2e1d0c-5b4a-5998-a877-665544332211"
    assert record.target_name == "cta-upgrade"
    assert record.target_id == "1a2b3c4d-5e6f-5a7b-8c9d-0e1f2a3b4c5d"


def test_failure_reason_is_read() -> None:
    """A failed push has a reason."""
    assert _read(bodies.PUSH_FAILED).failure_reason == "NotRegistered"


@pytest.mark.parametrize(
    "body",
    [
        {"event": {"kind": "message.push.sent", "data.page_name": "p"}, "message.id": "m"},
        {"event": {"event.kind": "message.push.sent", "page_name": "p"}, "message": {"id": "m"}},
        {"event": {"kind": "message.push.sent"}, "page_name": "p", "message_id": "m"},
        {"event.kind": "message.push.sent", "event": {"data": {"page_name": "p"}}, "iam_id": "m"},
        {"event_kind": "message.push.sent", "event.data": {"page_name": "p"}, "message_id": "m"},
        {"Event Data": {"kind": "message.push.sent", "page_name": "p"}, "message": {"id": "m"}},
        {
            "event": {"kind": "message.push.sent", "data": {"page_name": "p"}},
            "message": {"id": "m", "template_name": "unknown to relay"},
            "user": None,
        },
        {
            "event": {"kind": "message.push.sent", "data": {"page_name": "p"}},
            "message": {"id": "m"},
            "user": {"subscription": "not an object"},
        },
    ],
)
def test_mixtures_of_shapes_are_understood(body: Body) -> None:
    """A custom template may mix the spellings."""
    assert _read(body) == Record(
        kind="message.push.sent", page_name="p", message=MessageFields(id="m")
    )


def test_dotted_name_precedes_a_loose_one() -> None:
    """A qualified name takes precedence, whatever the order of the two."""
    loose, dotted = {"external_id": "loose"}, {"event.external_id": "dotted"}
    kind = {"event.kind": "message.push.sent"}
    assert _read(kind | loose | dotted).external_id == "dotted"
    assert _read(kind | dotted | loose).external_id == "dotted"


@pytest.mark.parametrize("blank", ["", " ", None])
def test_blank_of_one_spelling_leaves_room_for_another(blank: str | None) -> None:
    """A blank value is absent, so it hides nothing."""
    body = {"event.kind": "message.push.sent", "template_id": "t", "message.template_id": blank}
    assert _read(body).message.template_id == "t"


def test_tags_are_not_read() -> None:
    """Tags are app-defined and may have any name."""
    body = bodies.flat(bodies.PUSH_CLICKED) | {"user": {"tags": {"event_id": "x", "url": "y"}}}
    assert _read(body) == PUSH_CLICKED


# Fields.


def _changed(**event: object) -> Body:
    body = copy.deepcopy(bodies.PUSH_CLICKED)
    body["event"] |= event
    return body


@pytest.mark.parametrize("shape", [bodies.flat, copy.deepcopy])
@pytest.mark.parametrize("blank", ["", "  \t", None, True])
def test_blank_fields_are_absent(shape: Callable[[Body], Body], blank: object) -> None:
    """Liquid renders missing values as blank; booleans are no ids."""
    fields = ("id", "app_id", "subscription_id", "external_id", "subscription_device_type")
    record = _read(shape(_changed(**dict.fromkeys(fields, blank))))
    assert record.event_id is None
    assert record.app_id is None
    assert record.subscription_id is None
    assert record.external_id is None
    assert record.device_type is None


@pytest.mark.parametrize("shape", [bodies.flat, copy.deepcopy])
def test_ids_of_the_user_replace_absent_ones(shape: Callable[[Body], Body]) -> None:
    """The event's own ids come first, then the user's."""
    body = _changed(external_id="", subscription_id=" ")
    body["user"] |= {"external_id": "user-7", "subscription": {"id": "sub-7", "language": "fr"}}
    record = _read(shape(body))
    assert (record.external_id, record.subscription_id) == ("user-7", "sub-7")
    assert record.languages == ("fr", "de")


def test_ids_of_the_event_come_before_those_of_the_user() -> None:
    """An event is about the subscription it names."""
    body = _changed()
    body["user"] |= {"external_id": "user-7", "subscription": {"id": "sub-7"}}
    record = _read(body)
    assert record.external_id == PUSH_CLICKED.external_id
    assert record.subscription_id == PUSH_CLICKED.subscription_id


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("42", "42"),
        ("42.0", "42"),
        ("4.5", "4.5"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_numbers_become_text(number: str, text: str) -> None:
    """A template that forgot the quotes names the same user."""
    raw = json.dumps(_changed(external_id="PLACE")).replace('"PLACE"', number)
    (element,) = parse_body(raw.encode())
    assert read_record(element).external_id == text


@pytest.mark.parametrize(
    ("datetime", "timestamp", "time_ms"),
    [
        ("2026-01-01T10:05:06.412Z", "1", 1_767_261_906_412),
        ("", "1767261906", 1_767_261_906_000),
        ("soon", 1_767_261_906, 1_767_261_906_000),
        ("3026-01-01T10:05:06Z", 1_767_261_906_412, 1_767_261_906_412),
        (None, "2026-01-01T10:05:06.412Z", 1_767_261_906_412),
        (1_767_261_906, "", 1_767_261_906_000),
        ("", 0, None),
        ("", "", None),
    ],
)
def test_time_is_that_of_the_first_source_that_makes_sense(
    datetime: object, timestamp: object, time_ms: int | None
) -> None:
    """`event.datetime` has milliseconds; `event.timestamp` is the fallback."""
    assert _read(_changed(datetime=datetime, timestamp=timestamp)).time_ms == time_ms


def test_other_spellings_of_the_kind_are_understood() -> None:
    """A record bears the canonical kind."""
    assert _read(_changed(kind="Message.Email. HardBounced")).kind == "message.email.bounced"


# Rejections.


@pytest.mark.parametrize("element", [None, 7, "text", True, [], [{}]])
def test_event_that_is_no_object_is_rejected(element: object) -> None:
    """Only an object can be an event."""
    with pytest.raises(PayloadError) as caught:
        read_record(element)
    assert caught.value.reason == "not_an_object"


@pytest.mark.parametrize(
    "element",
    [{}, {"event": {}}, {"event": {"kind": " "}}, {"event": {"kind": {}}}, {"event": "clicked"}],
)
def test_event_without_a_kind_is_rejected(element: object) -> None:
    """Nothing can be said of an event whose kind is missing."""
    with pytest.raises(PayloadError) as caught:
        read_record(element)
    assert caught.value.reason == "no_kind"


@pytest.mark.parametrize("kind", ["message.push.dismissed", "clicked", 7])
def test_event_of_an_unknown_kind_is_rejected(kind: object) -> None:
    """An unknown kind is quarantined, and the reason does not quote it."""
    with pytest.raises(PayloadError) as caught:
        read_record({"event": {"kind": kind}})
    assert caught.value.reason == "unknown_kind"
    assert str(kind) not in caught.value.detail


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        *((True, True), (False, False), ("true", True), ("false", False), (" True ", True)),
        *(("", None), (" ", None), (None, None), ("yes", None), (1, None), (0, None)),
        *(([], None), ({"id": "x"}, None)),
    ],
)
@pytest.mark.parametrize("shape", [bodies.flat, bodies.snake, copy.deepcopy])
def test_flag_of_the_subscription_is_read(
    shape: Callable[[Body], Body], value: object, *, flag: bool | None
) -> None:
    """A template may include it, quoted or not; only booleans count."""
    body = copy.deepcopy(bodies.PUSH_CLICKED)
    body["user"]["subscription"]["subscribed"] = value
    assert _read(shape(body)) == PUSH_CLICKED._replace(is_subscribed=flag)
