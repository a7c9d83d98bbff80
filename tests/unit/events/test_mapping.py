import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.errors import PayloadError
from relay.events.catalog import parse_selection
from relay.events.mapping import Filtered, MappedEvent, MappingPolicy, map_record
from relay.events.payload import parse_body, read_record
from relay.events.records import MessageFields, Record
from tests.unit.events import bodies
from tests.unit.events.bodies import APP_ID, Body

RECEIVED_AT_MS = 1_767_300_000_000
POLICY = MappingPolicy(
    app_id=APP_ID,
    kinds=parse_selection("all"),
    name_set="seed",
    anonymous="device",
    library="relay/1.2.3",
)
RECORD = Record(
    kind="message.push.clicked",
    event_id="e-1",
    subscription_id="sub-1",
    external_id="user-1",
    time_ms=1_767_261_906_412,
    message=MessageFields(id="m-1"),
)
REFUSED_IDS = [
    *("anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown"),
    *("00000000-0000-0000-0000-000000000000", "{}", "lmy47d", "0", "-1"),
]


def _map(record: Record, policy: MappingPolicy = POLICY) -> MappedEvent:
    mapped = map_record(record, policy, received_at_ms=RECEIVED_AT_MS)
    assert isinstance(mapped, MappedEvent)
    return mapped


def _sent(record: Record, policy: MappingPolicy = POLICY) -> dict[str, Any]:
    event = json.loads(_map(record, policy).body)
    assert isinstance(event, dict)
    return event


def _properties(record: Record) -> dict[str, str]:
    properties = _sent(record)["event_properties"]
    assert isinstance(properties, dict)
    return properties


def _record_of(body: Body) -> Record:
    (element,) = parse_body(json.dumps(body).encode())
    return read_record(element)


PUSH_CLICKED = {
    "event_type": "[OneSignal] Push Clicked",
    "user_id": "user-10042",
    "device_id": "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
    "insert_id": "5d0f6a9e-3f0a-4b57-9b1e-0c9be1a4d101",
    "language": "de",
    "library": "relay/1.2.3",
    "time": 1_767_261_906_412,
    "event_properties": {
        "Distinct ID": "user-10042",
        "Message ID": "9a4b2f10-6c1d-4a77-8e25-2f3f0a9d7e01",
        "Message Name": "new-year-offer",
        "Message Title": "Frohes neues Jahr",
        "Message Contents": "20% auf alles bis Sonntag",
        "message_type": "push",
        "template_id": "e1a2b3c4-0d0d-4e4e-8f8f-aabbccddeeff",
        "subscription_id": "a3f1c8d2-77b0-4f0b-8a51-3a1e64a0b001",
        "device_type": "iOS",
        "language": "de",
        "source": "onesignal",
        "url": "shop://offers/ny",
    },
}


def _as_is(body: Body) -> Body:
    return body


# Mapped events.


@pytest.mark.parametrize("words", [_as_is, bodies.objects, bodies.printed])
@pytest.mark.parametrize(
    "shape", [_as_is, bodies.flat, bodies.grouped, bodies.snake, bodies.unquoted]
)
def test_every_shape_gives_the_same_amplitude_event(
    words: Callable[[Body], Body], shape: Callable[[Body], Body]
) -> None:
    """The template's shape does not show in Amplitude."""
    assert _sent(_record_of(shape(words(bodies.PUSH_CLICKED)))) == PUSH_CLICKED


def test_email_has_its_subject_and_no_contents() -> None:
    """The body of an e-mail is never in the event, so the property is absent."""
    assert _sent(_record_of(bodies.EMAIL_OPENED)) == {
        "event_type": "[OneSignal] Email Opened",
        "user_id": "user-10042",
        "device_id": "b7c2d9e3-1111-4222-9333-444455556602",
        "insert_id": "0b8f4f2c-8a63-4a1c-b1d0-66f0f5a0e202",
        "language": "en",
        "library": "relay/1.2.3",
        "time": 1_767_265_200_007,
        "event_properties": {
            "Distinct ID": "user-10042",
            "Message ID": "7e6d5c4b-3a29-4180-8f7e-6d5c4b3a2902",
            "Message Name": "welcome-1",
            "Message Title": "Welcome aboard, here is step one",
            "message_type": "email",
            "template_id": "d4c3b2a1-0f0e-4d0c-8b0a-090807060504",
            "subscription_id": "b7c2d9e3-1111-4222-9333-444455556602",
            "device_type": "Email",
            "language": "en",
            "source": "onesignal",
        },
    }


def test_anonymous_sms_is_sent_for_its_device_alone() -> None:
    """Without an external id there is no `user_id`, no `Distinct ID`, no blank language."""
    assert _sent(_record_of(bodies.SMS_UNDELIVERED)) == {
        "event_type": "[OneSignal] SMS Undelivered",
        "device_id": "c8d3eaf4-2222-4333-a444-555566667703",
        "insert_id": "2c7d11aa-90ef-4b0e-8d1c-7f1f0e3bb303",
        "library": "relay/1.2.3",
        "time": 1_767_268_801_950,
        "event_properties": {
            "Message ID": "6d5c4b3a-2918-4070-9f6e-5d4c3b2a1903",
            "Message Name": "delivery-code",
            "Message Contents": "Your parcel arrives between 14:00 and 16:00. Reply",
            "message_type": "SMS",
            "subscription_id": "c8d3eaf4-2222-4333-a444-555566667703",
            "device_type": "SMS",
            "source": "onesignal",
        },
    }


def test_in_app_click_has_its_page_and_target() -> None:
    """Fields beyond the seed are sent where present."""
    properties = _properties(_record_of(bodies.IAM_CLICKED))
    assert properties == {
        "Distinct ID": "user-10042",
        "Message ID": "5c4b3a29-1807-4f6e-8d5c-4b3a29180704",
        "Message Name": "upgrade carousel",
        "message_type": "in-app",
        "subscription_id": "d9e4fb05-3333-4444-b555-666677778804",
        "device_type": "Android",
        "language": "en",
        "source": "onesignal",
        "page_name": "Card 2",
        "page_id": "8f2e1d0c-5b4a-5998-a877-665544332211",
        "target_name": "cta-upgrade",
        "target_id": "1a2b3c4d-5e6f-5a7b-8c9d-0e1f2a3b4c5d",
    }


def test_failed_push_says_why() -> None:
    """The provider's reason is a property."""
    assert _properties(_record_of(bodies.PUSH_FAILED))["failure_reason"] == "NotRegistered"


def test_names_follow_the_set() -> None:
    """Event name and message type come from the chosen set."""
    sent = _sent(_record_of(bodies.SMS_UNDELIVERED), replace(POLICY, name_set="2022"))
    assert sent["event_type"] == "SMS Undelivered"
    assert sent["event_properties"]["message_type"] == "sms"


def test_title_is_in_the_language_of_the_device() -> None:
    """Device language, then user language, then English."""
    message = MessageFields(title={"en": "Hello", "de": "Hallo"}, contents={"fr": "bonjour"})
    properties = _properties(RECORD._replace(languages=("it", "de"), message=message))
    assert properties["Message Title"] == "Hallo"
    assert properties["Message Contents"] == "bonjour"
    assert properties["language"] == "it"


@pytest.mark.parametrize(
    ("message", "url"),
    [
        (MessageFields(url="u", app_url="a", web_url="w"), "u"),
        (MessageFields(app_url="a", web_url="w"), "a"),
        (MessageFields(web_url="w"), "w"),
    ],
)
def test_url_is_the_first_present(message: MessageFields, url: str) -> None:
    """The launch URL precedes those for app and web."""
    assert _properties(RECORD._replace(message=message))["url"] == url


def test_mapped_event_says_what_its_body_says() -> None:
    """The fields relay keeps beside the bytes are in the bytes."""
    mapped = _map(RECORD)
    sent = json.loads(mapped.body)
    assert mapped.insert_id == sent["insert_id"] == "e-1"
    assert mapped.device_id == sent["device_id"] == "sub-1"
    assert mapped.user_id == sent["user_id"] == "user-1"
    assert mapped.event_type == sent["event_type"] == "[OneSignal] Push Clicked"
    assert mapped.time_ms == sent["time"] == 1_767_261_906_412


def test_time_of_receipt_serves_where_the_event_has_none() -> None:
    """An event always has a time."""
    assert _map(RECORD._replace(time_ms=None)).time_ms == RECEIVED_AT_MS


def test_strings_are_cut_at_1024_characters() -> None:
    """Amplitude would cut them, too; characters are counted, not bytes."""
    long, cut = "ä" * 1025, "ä" * 1024
    record = RECORD._replace(
        device_type=long,
        page_name=long,
        page_id=long,
        target_name=long,
        target_id=long,
        failure_reason=long,
        languages=(long,),
        message=MessageFields(
            id=long, name=long, title=long, contents={"en": long}, template_id=long, url=long
        ),
    )
    properties = _properties(record)
    short = {"Distinct ID", "subscription_id", "message_type", "source"}
    assert {properties[name] for name in properties.keys() - short} == {cut}
    assert _sent(record)["language"] == cut


def test_1024_characters_are_kept() -> None:
    """The limit itself is allowed, for ids and texts."""
    longest = "x" * 1024
    sent = _sent(RECORD._replace(event_id=longest, external_id=longest, subscription_id=longest))
    assert sent["insert_id"] == sent["user_id"] == sent["device_id"] == longest


def test_nothing_of_the_subscription_but_its_id_and_languages_is_sent() -> None:
    """Tokens, addresses and numbers in a body never reach Amplitude."""
    body = copy.deepcopy(bodies.PUSH_CLICKED)
    body["ip"] = "203.0.113.9"
    body["user"]["email"] = "maya@example.com"
    body["user"]["subscription"] |= {"subscription_token": "+15551230003", "device_os": "17.4"}
    assert _sent(_record_of(body)) == PUSH_CLICKED
    assert _sent(_record_of(bodies.flat(body))) == PUSH_CLICKED


# Ids.


@pytest.mark.parametrize("refused", REFUSED_IDS)
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, " {} ".format])
def test_refused_user_id_becomes_a_property(refused: str, change: Callable[[str], str]) -> None:
    """Amplitude would reject the whole upload for such an id."""
    text = change(refused)
    sent = _sent(RECORD._replace(external_id=text))
    assert "user_id" not in sent
    assert sent["event_properties"]["Distinct ID"] == text


@pytest.mark.parametrize("refused", [*REFUSED_IDS, "x" * 1025])
def test_refused_device_id_becomes_a_property(refused: str) -> None:
    """The user alone identifies the event then."""
    mapped = _map(RECORD._replace(subscription_id=refused))
    sent = json.loads(mapped.body)
    assert mapped.device_id is None
    assert "device_id" not in sent
    assert sent["event_properties"]["subscription_id"] == refused[:1024]


@pytest.mark.parametrize("short", ["1", "42", "-2", "00"])
def test_short_ids_are_ids(short: str) -> None:
    """Uploads allow ids of one character."""
    sent = _sent(RECORD._replace(external_id=short, subscription_id=short))
    assert sent["user_id"] == sent["device_id"] == short


@pytest.mark.parametrize("external_id", [None, "null", "x" * 1025])
@pytest.mark.parametrize("subscription_id", [None, "0", "x" * 1025])
def test_event_without_a_usable_id_is_rejected(
    external_id: str | None, subscription_id: str | None
) -> None:
    """An event needs one id that Amplitude accepts."""
    record = RECORD._replace(external_id=external_id, subscription_id=subscription_id)
    with pytest.raises(PayloadError) as caught:
        _map(record)
    assert caught.value.reason == "no_identity"


# Insert ids.


def test_insert_id_of_an_event_without_id_is_a_stable_hash() -> None:
    """The value may never change: Amplitude deduplicates earlier deliveries by it."""
    assert _map(RECORD._replace(event_id=None)).insert_id == "36a05450606e37a61499d1317bbdccca"


@pytest.mark.parametrize(
    "other",
    [
        RECORD._replace(kind="message.push.sent"),
        RECORD._replace(message=MessageFields(id="m-2")),
        RECORD._replace(message=MessageFields()),
        RECORD._replace(subscription_id="sub-2"),
        RECORD._replace(subscription_id=None),
        RECORD._replace(time_ms=1_767_261_906_413),
        RECORD._replace(time_ms=None),
    ],
)
def test_hash_tells_different_events_apart(other: Record) -> None:
    """Kind, message, subscription and time each count."""
    assert _hash_of(RECORD) != _hash_of(other)


@pytest.mark.parametrize(
    "same",
    [
        RECORD._replace(external_id="user-2"),
        RECORD._replace(message=MessageFields(id="m-1", name="n")),
        RECORD._replace(app_id=APP_ID),
    ],
)
def test_hash_counts_nothing_else(same: Record) -> None:
    """A repeated delivery is deduplicated though its message fields are now blank."""
    assert _hash_of(RECORD) == _hash_of(same)


def test_hash_tells_users_apart_where_there_is_no_subscription() -> None:
    """Two users' events of the same second are two events."""
    one = RECORD._replace(subscription_id=None)
    assert _hash_of(one) != _hash_of(one._replace(external_id="user-2"))


def test_overlong_event_id_is_hashed_whole() -> None:
    """Truncated, two ids could become one."""
    one, other = (RECORD._replace(event_id="x" * 1024 + end) for end in "ab")
    assert len(_map(one).insert_id) == 32
    assert _map(one).insert_id != _map(other).insert_id


def _hash_of(record: Record) -> str:
    return _map(record._replace(event_id=None)).insert_id


# Filtered and rejected events.


@pytest.mark.parametrize("app_id", [None, APP_ID, APP_ID.upper(), f" {APP_ID}"])
def test_event_of_the_own_app_is_accepted(app_id: str | None) -> None:
    """An absent app id means the app whose token was used."""
    assert _map(RECORD._replace(app_id=app_id)).insert_id == "e-1"


def test_event_of_another_app_is_rejected_before_all_else() -> None:
    """Not even its kind is checked."""
    foreign = RECORD._replace(app_id="99999999-2222-4333-8444-555555555555")
    with pytest.raises(PayloadError) as caught:
        _map(foreign, replace(POLICY, kinds=frozenset()))
    assert caught.value.reason == "foreign_app"


def test_known_but_unselected_kind_is_filtered() -> None:
    """Unselected kinds are filtered for any user."""
    nobody = Record(kind="message.live_activity.sent")
    assert map_record(nobody, POLICY, received_at_ms=1) is Filtered.NOT_SELECTED


def test_selected_live_activity_is_sent() -> None:
    """Live activities are sent if selected."""
    policy = replace(POLICY, kinds=parse_selection("message.live_activity.*"))
    sent = _sent(RECORD._replace(kind="message.live_activity.delivered"), policy)
    assert sent["event_type"] == "[OneSignal] Live Activity Delivered"


@pytest.mark.parametrize("external_id", [None, "null"])
@pytest.mark.parametrize("subscription_id", [None, "sub-1"])
def test_anonymous_event_is_filtered_where_the_app_drops_them(
    external_id: str | None, subscription_id: str | None
) -> None:
    """An id that Amplitude refuses makes no user either."""
    record = RECORD._replace(external_id=external_id, subscription_id=subscription_id)
    policy = replace(POLICY, anonymous="drop")
    assert map_record(record, policy, received_at_ms=1) is Filtered.ANONYMOUS


def test_event_with_a_user_is_sent_where_anonymous_ones_are_dropped() -> None:
    """Dropping concerns anonymous events only."""
    assert _map(RECORD, replace(POLICY, anonymous="drop")).user_id == "user-1"
