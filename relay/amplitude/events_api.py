"""Amplitude's upload API on the wire: one attempt in, one `UploadReply` out.

This module knows URLs, headers and compression; it neither retries nor judges.
"""

import zlib
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO

import aiohttp
import anyio.to_thread
import orjson

from relay.amplitude.verdicts import UploadReply
from relay.clock import Clock
from relay.upstream.client import describe_failure, parse_retry_after

PATHS = {"httpapi": "/2/httpapi", "batch": "/batch"}
"""Source: Amplitude's HTTP V2 and Batch Event Upload references."""

GZIP_FROM_BYTES = 2048
"""Smaller bodies are not worth it; Amplitude's browser SDK draws the same line."""

GZIP_LEVEL = 1
"""Event bodies are repetitive: level 1 already shrinks them about six times."""

STREAM_FROM_BYTES = 1_048_576
"""Larger bodies are written in pieces, so that other tasks run in between."""

MAX_ANSWER_BYTES = 1_048_576
"""Most that is read of an answer; a full list of throttled ids is far smaller."""

CUT = "[api key]"

_GZIP_WINDOW = 31
"""zlib's notation for the largest window with a gzip header."""


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where and how an app's events are uploaded.

    Attributes:
        url: Scheme, host and port.
        upload: `httpapi` or `batch`.
        api_key: The project's key; a secret.
        timeout_s: Of one whole upload.
        gzip: Whether bodies of 2 KiB and more are compressed.
    """

    url: str
    upload: str
    api_key: str
    timeout_s: float
    gzip: bool

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"UploadTarget({self.url}{PATHS[self.upload]})"


class EventsApi:
    """Uploads batches of one app.

    Attributes:
        target: Where and how; its timeout and compression may be replaced at any time.
    """

    def __init__(self, session: aiohttp.ClientSession, target: UploadTarget, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self.target = target
        self._url = target.url + PATHS[target.upload]
        self._head = b'{"api_key":%b,"options":{"min_id_length":1},"events":[' % orjson.dumps(
            target.api_key
        )

    @property
    def overhead_bytes(self) -> int:
        """Bytes of an upload besides its events and the commas between them."""
        return len(self._head) + 2

    async def upload(self, events: bytes) -> UploadReply:
        """Send one request with `events` (JSON objects, commas between them).

        Returns:
            How it ended, also if no answer came. The reply never holds the API key, though
            Amplitude repeats a wrong one in its error text.
        """
        data = b"%b%b]}" % (self._head, events)
        headers = {"Content-Type": "application/json"}
        if self.target.gzip and len(data) >= GZIP_FROM_BYTES:
            data = await anyio.to_thread.run_sync(_compress, data)
            headers["Content-Encoding"] = "gzip"
        try:
            async with self._session.post(
                self._url,
                data=data if len(data) < STREAM_FROM_BYTES else BytesIO(data),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self.target.timeout_s),
                allow_redirects=False,
            ) as response:
                body = await _read(response)
                if response.status != HTTPStatus.OK:
                    body = without_key(body, self.target.api_key)
                wait_s = parse_retry_after(
                    response.headers.get("Retry-After"),
                    response.headers.get("Date"),
                    now_s=self._clock.now_ms() / 1000,
                )
                return UploadReply(response.status, body, wait_s)
        except TimeoutError:
            return UploadReply(None, failure=f"no answer within {self.target.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return UploadReply(None, failure=describe_failure(error))


def without_key(body: bytes, api_key: str) -> bytes:
    """Return an error's body without the key that Amplitude repeats in its text.

    Only that text changes: a short key may occur anywhere in an answer by chance.
    """
    try:
        answer = orjson.loads(body)
    except ValueError:
        return body
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), str):
        return body
    error: str = answer["error"]
    prefix, separator, rest = error.partition(":")
    answer["error"] = prefix if separator and api_key in rest else error.replace(api_key, CUT)
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:  # nested deeper than anything of Amplitude's
        return orjson.dumps({"error": answer["error"]})


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read the answer up to the limit; the rest cannot change its meaning."""
    chunks = bytearray()
    async for chunk in response.content.iter_any():
        chunks += chunk
        if len(chunks) > MAX_ANSWER_BYTES:
            break
    return bytes(chunks)


def _compress(data: bytes) -> bytes:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return compressor.compress(data) + compressor.flush()
