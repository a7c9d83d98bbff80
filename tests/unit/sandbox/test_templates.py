"""Bodies rendered from customers' templates."""

from typing import Any

import orjson
import pytest

from relay.sandbox.onesignal.templates import Renderer, Rendering
from relay.sandbox.onesignal.traffic import RawEvent

EVENT: RawEvent = {
    "event": {
        "kind": "message.push.received",
        "id": "5d0f6a9e-3f0a-4b57-9b1e-0c9be1a4d101",
        "timestamp": 1767261906,
        "datetime": "2026-01-01T10:05:06.412Z",
        "app_id": "11111111-2222-4333-8444-555555555555",
        "subscription_device_type": "iOS",
        "subscription_id": "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
        "onesignal_id": "c0ffee00-1d1d-4a4a-9c9c-0123456789ab",
        "external_id": "user-10042",
        "data": {},
    },
    "message": {
        "id": "9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01",
        "name": "new-year-offer",
        "title": {"de": "Frohes neues Jahr", "en": "Happy new year"},
        "contents": {"en": '20% off "everything"'},
        "app_url": "shop://offers/ny",
    },
    "user": {"language": "de", "subscription": {"language": "en"}},
}


def render(event: RawEvent = EVENT, **options: object) -> Any:  # noqa: ANN401 - any JSON
    """Return the body of an event, parsed."""
    return orjson.loads(Renderer(Rendering.model_validate(options)).render(event))


def test_relay_shape_is_nested_and_all_text() -> None:
    """The template relay prints gives nested objects of strings, missing values blank."""
    body = render()
    assert body["event"]["timestamp"] == "1767261906"
    assert body["event"]["data"]["failure_reason"] == ""
    assert body["message"]["title"] == "Happy new year"
    assert body["message"]["contents"] == '20% off "everything"'
    assert body["message"]["template_id"] == ""
    assert body["user"] == {"language": "de", "subscription": {"language": "en"}}


def test_shape_a_has_two_objects_with_dotted_keys() -> None:
    """OneSignal's page groups dotted keys and repeats the template id."""
    body = render(shape="A", title="en")
    assert set(body) == {"Event Data", "Message Data"}
    assert body["Event Data"]["event.kind"] == "message.push.received"
    assert body["Message Data"]["message.title"] == "Happy new year"
    assert body["Message Data"]["template_id"] == ""


def test_shape_b_is_flat_with_dotted_keys() -> None:
    """The data reference has one flat object."""
    body = render(shape="B", title="pseudo")
    assert body["message.title"] == "{'de':'Frohes neues Jahr','en':'Happy new year'}"
    assert body["event.data.page_name"] == ""
    assert body["user.subscription.language"] == "en"


def test_shape_d_is_flat_snake_case() -> None:
    """Some receivers flatten the names."""
    body = render(shape="D")
    assert body["event_kind"] == "message.push.received"
    assert body["device_type"] == "iOS"
    assert body["page_name"] == ""
    assert body["message_id"] == "9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01"


@pytest.mark.parametrize("shape", ["relay", "A", "B", "D"])
@pytest.mark.parametrize("title", ["string", "en", "pseudo", "dict"])
@pytest.mark.parametrize("subject", [{"en": "x"}, "Subject", None])
def test_every_shape_and_title_is_json(shape: str, title: str, subject: object) -> None:
    """Every combination is JSON if values are escaped."""
    event = {**EVENT, "message": {**EVENT["message"], "title": subject}}
    assert render(event, shape=shape, title=title)


def test_dict_keeps_objects() -> None:
    """An unquoted object is a JSON object."""
    assert render(title="dict")["message"]["title"] == EVENT["message"]["title"]


def test_unescaped_quotes_break_the_body() -> None:
    """Liquid may print a quote inside a string."""
    with pytest.raises(orjson.JSONDecodeError):
        render(escapes=False)


def test_legacy_kinds_have_their_old_spelling() -> None:
    """Older documents have other spellings."""
    assert render(legacy_kinds=True)["event"]["kind"] == "message.push received"


@pytest.mark.parametrize(
    ("mode", "timestamp", "moment"),
    [
        ("s", "1767261906", "2026-01-01T10:05:06.412Z"),
        ("number", 1767261906, "2026-01-01T10:05:06.412Z"),
        ("ms", "1767261906000", ""),
        ("iso", "2026-01-01T10:05:06.412Z", ""),
        ("absent", "", ""),
    ],
)
def test_timestamps_come_in_several_ways(mode: str, timestamp: object, moment: str) -> None:
    """Seconds, milliseconds, ISO text, a bare number, or nothing."""
    event = render(timestamps=mode)["event"]
    assert (event["timestamp"], event["datetime"]) == (timestamp, moment)


def test_a_custom_template_is_used() -> None:
    """Customers write their own templates."""
    assert render(template='{"k": "{{ event.kind }}"}') == {"k": "message.push.received"}
