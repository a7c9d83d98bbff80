"""`relay template`: relay understands what it prints."""

from pathlib import Path

import pytest

from relay.events.payload import parse_body, read_record
from relay.events.records import Record
from relay.sandbox.onesignal.templates import Renderer, Rendering
from relay.sandbox.onesignal.traffic import RawEvent
from tests.support.command_line import APP_ID, CommandLine

PUSH: RawEvent = {
    "event": {
        "kind": "message.push.clicked",
        "id": "5d0f6a9e-3f0a-4b57-9b1e-0c9be1a4d101",
        "timestamp": 1_767_261_906,
        "datetime": "2026-01-01T10:05:06.412Z",
        "app_id": APP_ID,
        "subscription_device_type": "iOS",
        "subscription_id": "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
        "onesignal_id": "c0ffee00-1d1d-4a4a-9c9c-0123456789ab",
        "external_id": "user-10042",
        "data": {"page_name": "Card 1", "target_id": "t-1"},
    },
    "message": {
        "id": "9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01",
        "name": "new-year-offer",
        "title": {"de": "Frohes neues Jahr", "en": 'Don\'t miss "it"'},
        "contents": {"en": "20% off"},
        "template_id": "e1a2b3c4-0d0d-4e4e-8f8f-aabbccddeeff",
        "app_url": "shop://offers/ny",
    },
    "user": {"language": "de", "subscription": {"language": "en"}},
}
EMAIL: RawEvent = {
    **PUSH,
    "event": {**PUSH["event"], "kind": "message.email.opened", "external_id": None},
    "message": {"id": "m-1", "title": "A subject"},
}


async def read(tmp_path: Path, event: RawEvent) -> Record:
    """Render the printed template as OneSignal does, and read the body as the webhook does."""
    done = await CommandLine(tmp_path).run("template")
    assert (done.code, done.err) == (0, "")
    (element,) = parse_body(Renderer(Rendering(template=done.out)).render(event))
    return read_record(element)


async def test_a_push_arrives_complete(tmp_path: Path) -> None:
    """The template has every field relay reads."""
    record = await read(tmp_path, PUSH)
    assert record.kind == "message.push.clicked"
    assert record.event_id == PUSH["event"]["id"]
    assert record.app_id == APP_ID
    assert record.external_id == "user-10042"
    assert record.time_ms == 1_767_261_906_412
    assert record.languages == ("en", "de")
    assert (record.page_name, record.target_id, record.failure_reason) == ("Card 1", "t-1", None)
    assert record.message.title == 'Don\'t miss "it"'
    assert record.message.contents == "20% off"
    assert record.message.app_url == "shop://offers/ny"


async def test_an_email_s_title_is_its_subject(tmp_path: Path) -> None:
    """It is a text, not an object by language; missing fields read as absent."""
    record = await read(tmp_path, EMAIL)
    assert record.message.title == "A subject"
    assert (record.external_id, record.message.contents, record.message.name) == (None, None, None)


@pytest.mark.parametrize("variable", ["RELAY_LISTENN", "RELAY_LISTEN"])
async def test_it_needs_no_configuration(tmp_path: Path, variable: str) -> None:
    """Operators print it before anything is configured."""
    assert (await CommandLine(tmp_path, **{variable: "x"}).run("template")).code == 0
