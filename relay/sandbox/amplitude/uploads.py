"""From an HTTP request to an upload, or to the answer that refuses it.

The order of the refusals is the service's: path, body, encoding, size, JSON, request
keys, count of events, API key. Sizes are measured after decompression (the stricter
reading of the documented limit).
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web

from relay.sandbox.amplitude import answers
from relay.sandbox.common.replies import Answer, JsonObject

HTTPAPI_PATH: Final = "/2/httpapi"
BATCH_PATH: Final = "/batch"
MAX_BODY_BYTES: Final = {HTTPAPI_PATH: 1_000_000, BATCH_PATH: 20_000_000}
MAX_EVENTS: Final = 2_000
DEFAULT_MIN_ID_LENGTH: Final = 5
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16


@dataclass(frozen=True, slots=True)
class RawUpload:
    """One request as it arrived.

    Attributes:
        method: HTTP method.
        path: Path without query.
        content_type: Media type as stated.
        is_gzip: Whether the body was compressed.
        wire_bytes: Length of the body as sent.
        plain: The body decompressed; None if its compression is broken.
    """

    method: str
    path: str
    content_type: str
    is_gzip: bool
    wire_bytes: int
    plain: bytes | None

    @property
    def plain_bytes(self) -> int:
        """Length of the body after decompression."""
        return len(self.plain or b"")


@dataclass(frozen=True, slots=True)
class Upload:
    """A request that is well formed; its events are still unchecked.

    Attributes:
        path: `/2/httpapi` or `/batch`.
        api_key: The key it names.
        events: The events, all JSON objects.
        min_id_length: Value of `options.min_id_length`.
        top_level_keys: The keys beside `api_key`, `events` and `options`.
    """

    path: str
    api_key: str
    events: list[JsonObject]
    min_id_length: int
    top_level_keys: frozenset[str]

    @property
    def is_batch(self) -> bool:
        """Whether the Batch API was used."""
        return self.path == BATCH_PATH


async def read_upload(request: web.Request) -> RawUpload:
    """Read a request to its end and undo its compression."""
    raw = await request.read()
    is_gzip = request.headers.get("Content-Encoding", "").strip().lower() == "gzip"
    plain: bytes | None = raw
    if is_gzip and raw.startswith(_GZIP_MAGIC):
        plain = _gunzip(raw)
    elif is_gzip and request.content_length == len(raw):
        # aiohttp may have decompressed the body already; then the lengths differ.
        plain = None
    return RawUpload(
        method=request.method,
        path=request.path,
        content_type=request.content_type,
        is_gzip=is_gzip,
        # A chunked body states no length.
        wire_bytes=request.content_length or len(raw),
        plain=plain,
    )


def _gunzip(raw: bytes) -> bytes | None:
    """Return the decompressed bytes; None when they are broken or cut."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        plain = unpacker.decompress(raw)
    except zlib.error:
        return None
    return plain if unpacker.eof else None


def parse_upload(
    raw: RawUpload,
    is_key_known: Callable[[str], bool],
    *,
    max_body_bytes: int | None = None,
    max_events: int | None = None,
) -> Upload | Answer:
    """Return the upload, or the answer that refuses the request as a whole.

    Args:
        raw: The request.
        is_key_known: Tells whether the service accepts an API key.
        max_body_bytes: Lowered limit; None = the documented one of the path.
        max_events: Lowered limit; None = the documented one.
    """
    if raw.method != "POST" or raw.path not in MAX_BODY_BYTES:
        return answers.bad_request("Invalid request path")
    if raw.wire_bytes == 0:
        return answers.bad_request("Missing request body")
    if raw.plain is None:
        return answers.bad_request("Invalid JSON request body")
    if len(raw.plain) > (max_body_bytes or MAX_BODY_BYTES[raw.path]):
        return answers.too_large()
    try:
        body = orjson.loads(raw.plain)
    except orjson.JSONDecodeError:
        return answers.bad_request("Invalid JSON request body")
    if not isinstance(body, dict):
        return answers.bad_request("Invalid JSON request body")
    return _parse_body(raw.path, body, is_key_known, max_events or MAX_EVENTS)


def _parse_body(
    path: str, body: JsonObject, is_key_known: Callable[[str], bool], max_events: int
) -> Upload | Answer:
    api_key, events = body.get("api_key"), body.get("events")
    for name in ("api_key", "events"):
        if not body.get(name):
            return answers.missing_request_field(name)
    # As the service does, before the key: a 413 says nothing about it.
    if isinstance(events, list) and len(events) > max_events:
        return answers.too_large()
    if not isinstance(api_key, str) or not is_key_known(api_key):
        return answers.invalid_api_key(str(api_key))
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        return answers.bad_request("Invalid event JSON")
    min_id_length = _min_id_length(body.get("options"))
    if min_id_length is None:
        return answers.bad_request(answers.INVALID_VALUES)
    others = frozenset(body) - {"api_key", "events", "options"}
    return Upload(path, api_key, events, min_id_length, others)


def _min_id_length(options: object) -> int | None:
    """Return the requested length, or the default; None for nonsense."""
    if options is None:
        return DEFAULT_MIN_ID_LENGTH
    if not isinstance(options, dict):
        return None
    length = options.get("min_id_length", DEFAULT_MIN_ID_LENGTH)
    if length is None:
        return DEFAULT_MIN_ID_LENGTH
    return length if type(length) is int and length >= 0 else None
