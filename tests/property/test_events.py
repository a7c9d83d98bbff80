"""Properties of every body, whatever it contains."""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import PayloadError
from relay.events.catalog import KINDS, NAME_SETS, normalise_kind
from relay.events.instants import instant_ms
from relay.events.mapping import Filtered, MappedEvent, MappingPolicy, map_record
from relay.events.payload import parse_body, read_record
from relay.events.records import MessageFields, Record, fill_blank
from relay.events.titles import choose_text, wording_of

APP_ID = "11111111-2222-4333-8444-555555555555"
REFUSED = [
    *("anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown"),
    *("00000000-0000-0000-0000-000000000000", "{}", "lmy47d", "0", "-1"),
]
PROPERTIES = {
    *("Distinct ID", "Message ID", "Message Name", "Message Title", "Message Contents"),
    *("message_type", "template_id", "subscription_id", "device_type", "language", "source"),
    *("page_name", "page_id", "target_name", "target_id", "failure_reason", "url"),
}

texts = st.text(st.characters(exclude_categories=["Cs"]))
long_texts = st.integers(1000, 1100).flatmap(lambda size: st.just("ä" * size))
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
) | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
codes = st.sampled_from(["en", "de", "fr", "zh-Hans", "pt-BR", "nb", "de-AT"])
values = documents | long_texts | st.dictionaries(codes, documents) | st.sampled_from(REFUSED)
ids = scalars | long_texts | st.sampled_from([*REFUSED, *map(str.upper, REFUSED)])
ids |= texts.map("user-{}".format) | st.integers(1)

EVENT = ("id", "datetime", "timestamp", "subscription_device_type")
DATA = ("page_name", "page_id", "target_name", "target_id", "failure_reason", "live_activity_id")
MESSAGE = ("id", "name", "title", "contents", "template_id", "url", "app_url", "web_url", "extra")
FORBIDDEN = ("ip", "event_id", "client_upload_time", "email", "subscription_token")


def _section(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


events = st.builds(
    lambda kind, ids, event, data: {"kind": kind, **event, **ids, "data": data},
    st.sampled_from(sorted(KINDS)),
    st.fixed_dictionaries({"external_id": ids}, optional={"subscription_id": ids}),
    _section(*EVENT),
    _section(*DATA) | documents,
)
nested = st.fixed_dictionaries(
    {"event": events},
    optional={
        "message": _section(*MESSAGE) | documents,
        "user": _section("external_id", "language", "subscription", "tags") | documents,
        **dict.fromkeys(FORBIDDEN, values),
    },
)


def _flat(body: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    dotted: dict[str, Any] = {}
    for name, value in body.items():
        if isinstance(value, dict) and name in {"event", "data", "message", "user"}:
            dotted |= _flat(value, f"{prefix}{name}.")
        else:
            dotted[prefix + name] = value
    return dotted


bodies = nested | nested.map(_flat)
policies = st.builds(
    MappingPolicy,
    app_id=st.just(APP_ID),
    kinds=st.just(KINDS) | st.frozensets(st.sampled_from(sorted(KINDS)), min_size=13),
    name_set=st.sampled_from(NAME_SETS),
    anonymous=st.sampled_from(["device", "drop"]),
    library=st.just("relay/1.2.3"),
)
wordings = st.none() | texts | st.dictionaries(codes, texts, min_size=1)
message_fields = st.builds(
    MessageFields,
    **dict.fromkeys(("id", "name", "template_id", "url", "app_url", "web_url"), st.none() | texts),
    title=wordings,
    contents=wordings,
)


def _mapped(raw: bytes, policy: MappingPolicy) -> list[MappedEvent | Filtered | str]:
    """Return the outcome of each element of a body; a rejection is its reason."""
    outcomes: list[MappedEvent | Filtered | str] = []
    for element in parse_body(raw):
        try:
            outcomes.append(map_record(read_record(element), policy, received_at_ms=10**12))
        except PayloadError as error:
            outcomes.append(error.reason)
    return outcomes


def _sent(body: dict[str, Any], policy: MappingPolicy) -> list[tuple[MappedEvent, dict[str, Any]]]:
    outcomes = _mapped(json.dumps(body).encode(), policy)
    return [(event, json.loads(event.body)) for event in outcomes if isinstance(event, MappedEvent)]


@given(st.binary())
def test_any_bytes_are_parsed_or_rejected(raw: bytes) -> None:
    """The worst outcome is broken JSON, and what is parsed is standard JSON."""
    try:
        elements = parse_body(raw)
    except PayloadError as error:
        elements, reason = [], error.reason
    else:
        reason = "none"
    assert reason in {"none", "broken_json"}
    json.dumps(elements, allow_nan=False)


@given(document=documents, ascii_only=st.booleans())
def test_any_document_is_parsed_exactly(*, document: object, ascii_only: bool) -> None:
    """Numbers keep their digits and texts their letters, escaped or not."""
    raw = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert parse_body(raw) == (document if isinstance(document, list) else [document])


@given(st.text(st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010) | st.sampled_from('"\\a')))
def test_lone_surrogates_never_break_a_body(text: str) -> None:
    """Escapes of lone surrogates are replaced wherever they are."""
    (parsed,) = parse_body(json.dumps(text).encode())
    assert isinstance(parsed, str)
    parsed.encode()


@given(documents | bodies, policies)
def test_any_json_is_mapped_filtered_or_rejected(document: object, policy: MappingPolicy) -> None:
    """Only `PayloadError` is ever raised, and mapping is repeatable."""
    raw = json.dumps(document).encode()
    assert _mapped(raw, policy) == _mapped(raw, policy)


@given(bodies, policies)
def test_events_have_the_published_keys_and_no_others(
    body: dict[str, Any], policy: MappingPolicy
) -> None:
    """No address, token, `ip` or `event_id` slips through."""
    for _, sent in _sent(body, policy):
        keys = {"event_type", "time", "insert_id", "library", "event_properties"}
        assert keys <= sent.keys() <= keys | {"user_id", "device_id", "language"}
        assert {"source", "message_type"} <= sent["event_properties"].keys() <= PROPERTIES


@given(bodies, policies)
def test_texts_are_neither_blank_nor_too_long(body: dict[str, Any], policy: MappingPolicy) -> None:
    """Every value but the time is text of 1 to 1,024 characters."""
    for event, sent in _sent(body, policy):
        properties = sent.pop("event_properties")
        assert sent.pop("time") == event.time_ms > 0
        for text in (*sent.values(), *properties.values()):
            assert isinstance(text, str)
            assert 1 <= len(text) <= 1024


@given(bodies, policies)
def test_ids_are_accepted_by_amplitude(body: dict[str, Any], policy: MappingPolicy) -> None:
    """A refused id is never used, and there is always one good id."""
    for event, sent in _sent(body, policy):
        used = [sent[name] for name in ("user_id", "device_id") if name in sent]
        assert used == [text for text in (event.user_id, event.device_id) if text is not None]
        assert used
        assert not {text.strip().lower() for text in used} & {"", *REFUSED}


@given(bodies, policies)
def test_nested_and_flat_bodies_give_the_same_event(
    body: dict[str, Any], policy: MappingPolicy
) -> None:
    """The template's shape does not show in Amplitude."""
    assert _mapped(json.dumps(_flat(body)).encode(), policy) == _mapped(
        json.dumps(body).encode(), policy
    )


@given(message_fields)
def test_message_fields_survive_being_stored(fields: MessageFields) -> None:
    """Cached contents are read back unchanged."""
    assert MessageFields.from_json(fields.to_json()) == fields


@given(message_fields, message_fields)
def test_completing_keeps_the_event_s_own_fields_and_is_idempotent(
    told: MessageFields, remembered: MessageFields
) -> None:
    """Each field is the event's own, else the cached one; filling again changes nothing."""
    filled = fill_blank(Record(kind="message.push.clicked", message=told), remembered)
    for name in ("id", "name", "title", "contents", "template_id", "url", "app_url", "web_url"):
        own = getattr(told, name)
        expected = getattr(remembered, name) if own is None else own
        assert getattr(filled.message, name) == expected
    assert fill_blank(filled, remembered) == filled


words = texts.filter(str.strip)


@given(st.dictionaries(codes, words, min_size=1))
def test_objects_are_read_from_json_text(by_language: dict[str, str]) -> None:
    """A title printed as JSON is parsed back."""
    assert wording_of(json.dumps(by_language)) == by_language


@given(
    st.dictionaries(
        codes, words.filter(lambda text: "," not in text and "}" not in text), min_size=1
    )
)
def test_objects_are_read_from_single_quotes(by_language: dict[str, str]) -> None:
    """A title printed with single quotes is parsed back, apostrophes included."""
    entries = ",".join(f"'{code}':'{text}'" for code, text in by_language.items())
    assert wording_of(f"{{{entries}}}") == by_language


@given(st.dictionaries(codes, words, min_size=1), st.lists(codes | texts))
def test_a_text_is_always_found(by_language: dict[str, str], languages: list[str]) -> None:
    """Whatever the languages, a text is chosen, the preferred one if present."""
    chosen = choose_text(by_language, languages)
    assert chosen in by_language.values()
    if languages and languages[0] in by_language:
        assert chosen == by_language[languages[0]]


@given(st.integers(1, 4_102_444_799_999), st.timezones())
def test_instants_agree_with_the_calendar(ms: int, zone: tzinfo) -> None:
    """ISO text in any zone and numbers of the same moment give the same instant."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert instant_ms(moment.isoformat()) == ms
    assert instant_ms(moment.astimezone(zone).isoformat(" ")) == ms
    assert instant_ms(f"{ms / 1000:.3f}") == ms


@given(st.text())
def test_normalising_kinds_is_idempotent(text: str) -> None:
    """Any text is a known kind or none; normalising is idempotent."""
    kind = normalise_kind(text)
    assert kind is None or normalise_kind(kind) == kind


@given(bodies, policies)
def test_bodies_are_plain_json(body: dict[str, Any], policy: MappingPolicy) -> None:
    """Every parser reads the bytes as the same document."""
    for event, sent in _sent(body, policy):
        assert orjson.loads(event.body) == sent
