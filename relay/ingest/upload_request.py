"""Bytes of an upload to its events, or to the answer that refuses it. Pure.

The key in the body is the credential, so a body must be read before its sender is known. A long
body is therefore parsed only if it seems to contain a known key, and never if it would fill the
memory.

Source: Amplitude, HTTP V2 and Batch Event Upload references (2026).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from relay.errors import PayloadError
from relay.events.payload import parse_document
from relay.ingest.upload_responses import (
    INVALID_JSON,
    INVALID_VALUES,
    UploadResponse,
    bad_request,
    missing_request_field,
    too_large,
)

JsonObject: TypeAlias = dict[str, object]

MAX_EVENTS: Final = 2_000
DEFAULT_MIN_ID_LENGTH: Final = 5

STRANGER_BYTES: Final = 65_536
"""A body up to this size is parsed without looking for a known key."""

MAX_VALUES: Final = 1_000_000
"""JSON values of one body, each of which takes up to about 300 bytes of memory. The largest body
has room for a million of 20 bytes, and an SDK splits a request that is refused for having more."""

END_BYTES: Final = 65_536
"""A long body is searched for its key at both ends, because only its events are long."""

MAX_NAMED_KEYS: Final = 4

_NAMED_KEY: Final = re.compile(rb'"api_key"[ \t\r\n]*:[ \t\r\n]*"([^"\\]{1,200})"')


@dataclass(frozen=True, slots=True)
class UploadApi:
    """One of the two upload APIs.

    Attributes:
        path: Its path.
        max_body_bytes: Of a request, after decompression.
        is_batch: Whether a refusal reports every bad event, not only the first of each field, and
            an id that is too short is dropped, not refused.
    """

    path: str
    max_body_bytes: int
    is_batch: bool


HTTP_V2: Final = UploadApi("/2/httpapi", 1_000_000, is_batch=False)
BATCH: Final = UploadApi("/batch", 20_000_000, is_batch=True)


class UploadRequest(NamedTuple):
    """A request that is JSON with the fields every request must have.

    Attributes:
        api_key: The given key, empty if it is not a text.
        document: The whole request.
    """

    api_key: str
    document: JsonObject


class Upload(NamedTuple):
    """A request whose form is right.

    Attributes:
        events: The events, not checked yet.
        min_id_length: The shortest id it allows.
    """

    events: list[JsonObject]
    min_id_length: int


def keys_named(content: bytes) -> Iterator[str]:
    """Yield the API keys that a body seems to contain, without parsing it."""
    ends = (content[:END_BYTES], content[max(END_BYTES, len(content) - END_BYTES) :])
    found = 0
    for end in ends:
        for match in _NAMED_KEY.finditer(end):
            yield match[1].decode(errors="replace")
            found += 1
            if found == MAX_NAMED_KEYS:
                return


def parse_request(content: bytes) -> UploadRequest | UploadResponse:
    """Return the request of a decompressed body, or the answer that refuses it."""
    if not content:
        return bad_request("Missing request body")
    # Counted in the bytes: once they are parsed, the memory is taken.
    if len(content) > MAX_VALUES and _values_in(content) > MAX_VALUES:
        return too_large()
    try:
        document = parse_document(content)
    except PayloadError:
        return bad_request(INVALID_JSON)
    if not isinstance(document, dict):
        return bad_request(INVALID_JSON)
    for name in ("api_key", "events"):
        if not document.get(name):
            return missing_request_field(name)
    api_key = document["api_key"]
    return UploadRequest(api_key if isinstance(api_key, str) else "", document)


def read_upload(document: JsonObject) -> Upload | UploadResponse:
    """Return the events of a request, or the answer that refuses it."""
    events = document["events"]
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        return bad_request("Invalid event JSON")
    if len(events) > MAX_EVENTS:
        return too_large()
    min_id_length = _min_id_length(document.get("options"))
    if min_id_length is None:
        return bad_request(INVALID_VALUES)
    return Upload(events, min_id_length)


def _values_in(content: bytes) -> int:
    """Return an upper bound for the number of JSON values of a body."""
    return 1 + sum(content.count(opening) for opening in (b",", b"[", b"{"))


def _min_id_length(options: object) -> int | None:
    """Return the shortest id that options allow, None if they are invalid."""
    if options is None:
        return DEFAULT_MIN_ID_LENGTH
    if not isinstance(options, dict):
        return None
    length = options.get("min_id_length")
    if length is None:
        return DEFAULT_MIN_ID_LENGTH
    # `True` is an int, but no length.
    return length if type(length) is int and length >= 0 else None
