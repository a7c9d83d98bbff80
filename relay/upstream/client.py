"""Any other service over HTTP.

Transport failures become `UpstreamUnavailable`, answers are read up to a limit, files come raw and
in pieces. Redirects are never followed automatically: the address is chosen by someone else, and
no credentials go there.
"""

import email.utils
import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from http import HTTPStatus
from typing import Final, NamedTuple

import aiohttp
import anyio
import orjson
from yarl import URL

from relay.errors import FileRejected, UpstreamUnavailable
from relay.process.dns import ThreadedResolver
from relay.upstream.gunzip import PIECE_BYTES

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_TEMPORARY: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

MAX_QUOTED: Final = 200
"""Characters quoted of a service's error text."""

REDACTED: Final = "[key]"

MAX_RETRY_AFTER_S: Final = 86_400.0
"""A day: anything longer is taken for a mistake, and events must not grow too old."""


class Answer(NamedTuple):
    """The answer of an API.

    Attributes:
        status: HTTP status.
        body: Decompressed.
        retry_after_s: The wait it asks for, None if it does not say.
    """

    status: int
    body: bytes
    retry_after_s: float | None

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_client_error(self) -> bool:
        """Whether the same request would never succeed: a 4xx that is not temporary."""
        is_4xx = HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR
        return is_4xx and self.status not in _TEMPORARY

    def fields(self) -> dict[str, object]:
        """Return the fields of the body's JSON object, none if it is not one."""
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return document if isinstance(document, dict) else {}


def open_session(user_agent: str, *, keeps_alive: bool = True) -> aiohttp.ClientSession:
    """Return a client session without limits, in which no app waits for another.

    Args:
        user_agent: The `User-Agent` header of every request.
        keeps_alive: Whether connections are used again. If so, aiohttp repeats a request whose
            kept connection turns out to be closed; one that starts an export would start two.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, force_close=not keeps_alive, resolver=ThreadedResolver()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": user_agent},
    )


@contextmanager
def transport_failures(problem: str, timeout_s: float) -> Iterator[None]:
    """Translate failures below HTTP.

    Args:
        problem: What the service did not do, as the beginning of a sentence.
        timeout_s: The time it had.

    Raises:
        UpstreamUnavailable: For each of them.
    """
    try:
        yield
    except TimeoutError as error:
        raise UpstreamUnavailable(f"{problem}: it took longer than {timeout_s:g} s.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamUnavailable(f"{problem}: {describe_failure(error)}.") from error


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the body of an answer that is not a file.

    Raises:
        UpstreamUnavailable: If it is longer than `max_bytes`.
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise UpstreamUnavailable(f"An answer has more than {max_bytes} bytes.")
    return bytes(body)


async def start_download(
    session: aiohttp.ClientSession,
    url: URL,
    problem: str,
    *,
    idle_s: float,
    headers: Mapping[str, str] | None = None,
) -> aiohttp.ClientResponse:
    """Ask for a file; return the answer, of whatever status, before its body.

    Args:
        session: Carries the request; it must not have credentials of its own.
        url: Where the file is.
        problem: What the service did not do if this fails, as the beginning of a sentence.
        idle_s: The longest time for the head, and between two pieces of the body.
        headers: Added to the request.

    Raises:
        UpstreamUnavailable: If no answer comes.
    """
    # `sock_read` counts from the last byte: a head that arrives byte by byte would never be late.
    with transport_failures(problem, idle_s), anyio.fail_after(idle_s):
        return await session.get(
            url,
            headers={**(headers or {}), "Accept-Encoding": "gzip"},
            timeout=aiohttp.ClientTimeout(connect=idle_s, sock_read=idle_s),
            allow_redirects=False,
            auto_decompress=False,
        )


async def read_file(
    response: aiohttp.ClientResponse, problem: str, *, idle_s: float
) -> AsyncGenerator[bytes, None]:
    """Yield a file's bytes as they arrive, at most `PIECE_BYTES` at a time, packed or not.

    Raises:
        FileRejected: `truncated`, if less comes than was announced.
        UpstreamUnavailable: If nothing comes any more.
    """
    with transport_failures(problem, idle_s):
        try:
            async for chunk in response.content.iter_chunked(PIECE_BYTES):
                yield chunk
        except aiohttp.ClientPayloadError as error:
            raise FileRejected("truncated", "The file ended before all of it came.") from error


def parse_link(text: str | None, *, base: URL) -> URL | None:
    """Return a link that is safe to follow, else None.

    It leads to a web address, and not from HTTPS to HTTP. Its escapes stay as they are, since the
    signature of a pre-signed link covers every character.

    Args:
        text: The link, absolute or relative; None if there is none.
        base: Where it was found.
    """
    try:
        link = base.join(URL(text, encoded=True)) if text else None
        is_web = link is not None and bool(link.host) and link.scheme in ("http", "https")
    except ValueError:
        return None
    if link is None or not is_web or (base.scheme, link.scheme) == ("https", "http"):
        return None
    return link


def log_safe(texts: Iterable[object], secrets: Iterable[str]) -> str:
    """Return a service's texts as one line that is safe to log: short, and without secrets."""
    said = " ".join(text for text in texts if isinstance(text, str))
    if not said.isprintable():
        said = "".join(sign if sign.isprintable() else " " for sign in said)
    line = " ".join(said.split())
    for secret in filter(None, secrets):
        line = line.replace(secret, REDACTED)
    return line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}…"


_FAILURES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the name of its host is not found"),
    (aiohttp.ClientConnectorCertificateError, "its certificate is not accepted"),
    (aiohttp.ClientSSLError, "it does not speak TLS as it should"),
    (aiohttp.ServerDisconnectedError, "the connection ended without an answer"),
    (aiohttp.ClientPayloadError, "the answer was cut or is damaged"),
    (aiohttp.ClientResponseError, "the answer is not valid HTTP"),
)


def describe_failure(error: BaseException) -> str:
    """Return why an exchange failed below HTTP, without its path or payload."""
    certificate = getattr(error, "certificate_error", None)
    fault = getattr(certificate, "verify_message", None)
    for kind, text in _FAILURES:
        if isinstance(error, kind):
            return f"{text}: {fault}" if fault else text
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__


def parse_retry_after(value: str | None, date: str | None, *, now_s: float) -> float | None:
    """Return the seconds a `Retry-After` header asks for, None if it cannot be read.

    A date is read against the answer's own `Date` where there is one, so that our clock may be
    wrong.

    Args:
        value: The header.
        date: The answer's `Date`.
        now_s: Our wall time, UTC epoch seconds, if there is no `Date`.

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
