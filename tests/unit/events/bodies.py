"""Bodies as OneSignal sends them: one push click in every shape, and one event per channel.

The values are invented; names, quoting and blanks are those of OneSignal's documentation.
"""

import copy
from typing import Any

APP_ID = "11111111-2222-4333-8444-555555555555"
Body = dict[str, Any]

_NO_DATA = {
    "page_name": "",
    "page_id": "",
    "target_name": "",
    "target_id": "",
    "failure_reason": "",
    "live_activity_id": "",
    "live_activity_type": "",
}


def event_body(kind: str, *, event: Body, message: Body, language: str = "en") -> Body:
    """Return the body relay's own template makes: nested, everything quoted, absent = blank."""
    data = _NO_DATA | event.pop("data", {})
    blank = dict.fromkeys(
        ("name", "title", "contents", "template_id", "url", "app_url", "web_url"), ""
    )
    return {
        "relay_template": 1,
        "event": {
            "kind": kind,
            "app_id": APP_ID,
            "onesignal_id": "c0ffee00-1d1d-4a4a-9c9c-0123456789ab",
            "external_id": "user-10042",
            **event,
            "data": data,
        },
        "message": blank | message | {"live_activity_event_kind": ""},
        "user": {"language": language, "subscription": {"language": language}},
    }


PUSH_CLICKED = event_body(
    "message.push.clicked",
    event={
        "id": "5d0f6a9e-3f0a-4b57-9b1e-0c9be1a4d101",
        "timestamp": "1767261906",
        "datetime": "2026-01-01T10:05:06.412Z",
        "subscription_device_type": "iOS",
        "subscription_id": "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
    },
    message={
        "id": "9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01",
        "name": "new-year-offer",
        "title": "Frohes neues Jahr",
        "contents": "20% auf alles bis Sonntag",
        "template_id": "e1a2b3c4-0d0d-4e4e-8f8f-aabbccddeeff",
        "app_url": "shop://offers/ny",
        "web_url": "https://shop.example/ny",
    },
    language="de",
)
EMAIL_OPENED = event_body(
    "message.email.opened",
    event={
        "id": "0b8f4f2c-8a63-4a1c-b1d0-66f0f5a0e202",
        "timestamp": "1767265200",
        "datetime": "2026-01-01T11:00:00.007Z",
        "subscription_device_type": "Email",
        "subscription_id": "b7c2d9e3-1111-4222-9333-444455556602",
    },
    message={
        "id": "7e6d5c4b-3a29-4180-8f7e-6d5c4b3a2902",
        "name": "welcome-1",
        "title": "Welcome aboard, here is step one",
        "template_id": "d4c3b2a1-0f0e-4d0c-8b0a-090807060504",
    },
)
SMS_UNDELIVERED = event_body(
    "message.sms.undelivered",
    event={
        "id": "2c7d11aa-90ef-4b0e-8d1c-7f1f0e3bb303",
        "timestamp": "1767268801",
        "datetime": "2026-01-01T12:00:01.950Z",
        "subscription_device_type": "SMS",
        "subscription_id": "c8d3eaf4-2222-4333-a444-555566667703",
        "external_id": "",
    },
    message={
        "id": "6d5c4b3a-2918-4070-9f6e-5d4c3b2a1903",
        "name": "delivery-code",
        "contents": "Your parcel arrives between 14:00 and 16:00. Reply",
    },
    language="",
)
IAM_CLICKED = event_body(
    "message.iam.clicked",
    event={
        "id": "3e8e22bb-a1f0-4c1f-9e2d-801f1f4cc404",
        "timestamp": "1767272400",
        "datetime": "2026-01-01T13:00:00.120Z",
        "subscription_device_type": "Android",
        "subscription_id": "d9e4fb05-3333-4444-b555-666677778804",
        "data": {
            "page_name": "Card 2",
            "page_id": "8f2e1d0c-5b4a-5998-a877-665544332211",
            "target_name": "cta-upgrade",
            "target_id": "1a2b3c4d-5e6f-5a7b-8c9d-0e1f2a3b4c5d",
        },
    },
    message={"id": "5c4b3a29-1807-4f6e-8d5c-4b3a29180704", "name": "upgrade carousel"},
)
PUSH_FAILED = copy.deepcopy(PUSH_CLICKED)
PUSH_FAILED["event"]["kind"] = "message.push.failed"
PUSH_FAILED["event"]["data"]["failure_reason"] = "NotRegistered"


def flat(body: Body, prefix: str = "") -> Body:
    """Return a nested body as one object with dotted names."""
    dotted: Body = {}
    for name, value in body.items():
        if isinstance(value, dict) and name not in {"title", "contents"}:
            dotted |= flat(value, f"{prefix}{name}.")
        else:
            dotted[prefix + name] = value
    return dotted


def grouped(body: Body) -> Body:
    """Return a nested body as OneSignal's own example has it, in two objects of dotted names."""
    dotted = flat(body)
    message = {name: value for name, value in dotted.items() if name.startswith("message.")}
    event = {name: value for name, value in dotted.items() if name not in message}
    template_id = {"template_id": body["message"]["template_id"]}
    return {"Event Data": event, "Message Data": message | template_id}


def snake(body: Body) -> Body:
    """Return a nested body as one object of names with underscores."""
    return {name.replace(".", "_"): value for name, value in flat(body).items()}


def objects(body: Body) -> Body:
    """Return a nested body whose title and contents are objects by language, as for a push."""
    changed = copy.deepcopy(body)
    for name in ("title", "contents"):
        text = changed["message"][name]
        changed["message"][name] = {"en": f"English {text}", "de": text}
    return changed


def printed(body: Body) -> Body:
    """Return `objects(body)` with the objects printed as OneSignal's quoted placeholders do."""
    changed = objects(body)
    for name in ("title", "contents"):
        texts = changed["message"][name]
        entries = ",".join(f"'{code}':'{text}'" for code, text in texts.items())
        changed["message"][name] = f"{{{entries}}}"
    return changed


def unquoted(body: Body) -> Body:
    """Return a nested body of a template that quotes only texts and blanks nothing."""
    changed = copy.deepcopy(body)
    for section in (changed["event"], changed["event"]["data"], changed["message"]):
        for name in [name for name, value in section.items() if value == ""]:
            section[name] = None
    changed["event"]["timestamp"] = int(changed["event"]["timestamp"])
    return changed
