"""Amplitude's upload API on the wire: one attempt in, one `UploadReply` out.

This module knows URLs, headers and compression; it neither retries nor judges.
"""

import email.utils
import os
import zlib
from dataclasses import dataclass
from datetime import UTC
from http import HTTPStatus
from io import BytesIO
from typing import Final

import aiohttp
import anyio.to_thread
import orjson

from relay.amplitude.verdicts import UploadReply
from relay.clock import Clock

PATHS = {"httpapi": "/2/httpapi", "batch": "/batch"}
"""Source: Amplitude's HTTP V2 and Batch Event Upload references."""

GZIP_FROM_BYTES = 2048
"""Smaller bodies are sent as they are, as Amplitude's browser SDK does."""

GZIP_LEVEL = 1
"""Event bodies repeat themselves: level 1 already shrinks them about six times."""

STREAM_FROM_BYTES = 1_048_576
"""Larger bodies go to the socket in pieces, so that other tasks get their turn."""

MAX_ANSWER_BYTES = 1_048_576
"""Read of an answer; a full list of throttled ids and indices is far smaller."""

CUT = "[api key]"

MAX_RETRY_AFTER_S = 86_400.0
"""A day: a longer request is taken for a mistake, and events must not grow too old."""

_GZIP_WINDOW = 31
"""zlib's notation for the largest window with a gzip header."""


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where and how an app's events are uploaded.

    Attributes:
        url: Scheme, host and port.
        upload: `httpapi` or `batch`.
        api_key: The project's key; a secret.
        timeout_s: For one upload, whole.
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
        target: How it does so; its timeout and compression may be replaced at any time.
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
            How it ended. Amplitude repeats a wrong key in its error text; the reply does
            not hold it.
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
            return UploadReply(None, failure=explain(error))


def without_key(body: bytes, api_key: str) -> bytes:
    """Return an error's body without the key that Amplitude repeats in its text.

    Only that text is touched: a key may look like any other part of an answer.
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
    squeezer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return squeezer.compress(data) + squeezer.flush()


_FAILURES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the name of its host is not found"),
    (aiohttp.ClientConnectorCertificateError, "its certificate is not accepted"),
    (aiohttp.ClientSSLError, "it does not speak TLS as it should"),
    (aiohttp.ServerDisconnectedError, "the connection ended without an answer"),
    (aiohttp.ClientPayloadError, "the answer was cut or is damaged"),
    (aiohttp.ClientResponseError, "what came is no answer of HTTP"),
)


def explain(error: BaseException) -> str:
    """Return why an exchange failed below HTTP, without its path or payload."""
    certificate = getattr(error, "certificate_error", None)
    fault = getattr(certificate, "verify_message", None)
    for kind, text in _FAILURES:
        if isinstance(error, kind):
            return f"{text}: {fault}" if fault else text
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__


def parse_retry_after(value: str | None, date: str | None, *, now_s: float) -> float | None:
    """Return the seconds a `Retry-After` header asks for, None if it says nothing.

    An instant is read against the answer's own `Date` where there is one, so that a wrong
    clock of ours does not matter.

    Args:
        value: The header.
        date: The answer's `Date`.
        now_s: Our wall time, UTC epoch seconds.

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    seconds = value.strip(" \t")
    if seconds.isascii() and seconds.isdecimal():
        return min(float(seconds), MAX_RETRY_AFTER_S)
    until_s = _parse_instant(value)
    if until_s is None:
        return None
    since_s = _parse_instant(date or "")
    return min(max(0.0, until_s - (now_s if since_s is None else since_s)), MAX_RETRY_AFTER_S)


def _parse_instant(text: str) -> float | None:
    """Return an HTTP date as UTC epoch seconds, None if it is none."""
    try:
        instant = email.utils.parsedate_to_datetime(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
