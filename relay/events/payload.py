"""Bytes of a request to records, or a rejection with a stable reason.

Whatever a body contains, the only error it can cause here is `PayloadError`.
"""

import codecs
import json
from typing import Final

import orjson

from relay.errors import PayloadError
from relay.events.catalog import normalise_kind
from relay.events.instants import instant_ms
from relay.events.records import MessageFields, Record
from relay.events.shapes import Section, sections_of
from relay.events.texts import text_of
from relay.events.titles import wording_of

# The fast parser rounds whole numbers of more than 64 bits. They have at least this many digits;
# replacing every digit by a zero makes them a substring to search for.
_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER: Final = b"0" * 20
_LONG_NEGATIVE: Final = b"-" + b"0" * 19

_TRUTHS: Final = {"true": True, "false": False}


def parse_body(raw: bytes) -> list[object]:
    """Return the elements of a JSON body: those of an array, or the single value it is.

    Args:
        raw: The decompressed body, in UTF-8.

    Raises:
        PayloadError: `broken_json`, if it is not one JSON document.
    """
    document = parse_document(raw)
    return document if isinstance(document, list) else [document]


def parse_document(raw: bytes) -> object:
    """Return the value of a JSON body, with all digits of its numbers.

    Args:
        raw: The decompressed body, in UTF-8.

    Raises:
        PayloadError: `broken_json`, if it is not one JSON document.
    """
    return _parse(raw.removeprefix(codecs.BOM_UTF8))


def read_record(element: object) -> Record:
    """Return the record of one element of a body, whatever its shape.

    Raises:
        PayloadError: `not_an_object`, `no_kind` or `unknown_kind`.
    """
    if not isinstance(element, dict):
        raise PayloadError("not_an_object", "The event is not a JSON object.")
    event, data, message, user, subscription = sections_of(element)
    languages = (text_of(subscription.get("language")), text_of(user.get("language")))
    return Record(
        kind=_kind(event),
        event_id=text_of(event.get("id")),
        app_id=text_of(event.get("app_id")),
        subscription_id=text_of(event.get("subscription_id")) or text_of(subscription.get("id")),
        external_id=text_of(event.get("external_id")) or text_of(user.get("external_id")),
        device_type=text_of(event.get("subscription_device_type")),
        is_subscribed=truth_of(subscription.get("subscribed")),
        time_ms=instant_ms(event.get("datetime")) or instant_ms(event.get("timestamp")),
        languages=tuple(filter(None, languages)),
        page_name=text_of(data.get("page_name")),
        page_id=text_of(data.get("page_id")),
        target_name=text_of(data.get("target_name")),
        target_id=text_of(data.get("target_id")),
        failure_reason=text_of(data.get("failure_reason")),
        message=_message_fields(message),
    )


def truth_of(value: object) -> bool | None:
    """Return the truth value of a JSON value, also if a template quoted it; else None."""
    if value is None or isinstance(value, bool):
        return value
    return _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else None


def _kind(event: Section) -> str:
    spelling = text_of(event.get("kind"))
    if spelling is None:
        raise PayloadError("no_kind", "The event names no kind.")
    kind = normalise_kind(spelling)
    if kind is None:
        raise PayloadError("unknown_kind", "The event's kind is not one of OneSignal's.")
    return kind


def _message_fields(message: Section) -> MessageFields:
    return MessageFields(
        id=text_of(message.get("id")),
        name=text_of(message.get("name")),
        title=wording_of(message.get("title")),
        contents=wording_of(message.get("contents")),
        template_id=text_of(message.get("template_id")),
        url=text_of(message.get("url")),
        app_url=text_of(message.get("app_url")),
        web_url=text_of(message.get("web_url")),
    )


def _parse(raw: bytes) -> object:
    """Parse fast; slowly but exactly where the fast parser would refuse or round."""
    digits = raw.translate(_AS_ZEROS)
    if _LONG_NUMBER in digits or _LONG_NEGATIVE in digits:
        return _parse_exactly(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # Perhaps half an emoji, which the fast parser refuses.
        if b"\\ud" in raw.lower():
            return _parse_exactly(raw)
        raise _broken(error) from error


def _parse_exactly(raw: bytes) -> object:
    """Parse with all digits of every number, replacing half emoji by U+FFFD.

    Source: OneSignal clips contents at 50 characters (Event Streams data reference, 2026); a
    clip by UTF-16 units halves an emoji, which JSON then spells as a lone escape.
    """
    try:
        text = json.dumps(json.loads(raw.decode()), ensure_ascii=False, allow_nan=False)
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> PayloadError:
    if isinstance(error, json.JSONDecodeError):
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
    else:
        place = "it holds what JSON cannot"
    return PayloadError("broken_json", f"The body is not JSON ({place}).")
