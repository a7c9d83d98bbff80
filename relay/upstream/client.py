"""Another service over HTTP, as far as all of them are alike.

Failures of the transport become `UpstreamUnavailable`, answers are read up to a limit, files come
raw and in pieces. Redirects are never followed by themselves: a link is an address that somebody
else chose, and no credentials go there.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, NamedTuple

import aiohttp
import anyio
import orjson
from yarl import URL

from relay.amplitude.events_api import explain
from relay.errors import FileRejected, UpstreamUnavailable
from relay.upstream.gunzip import PIECE_BYTES

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

MAX_WORDS: Final = 200
"""Characters quoted of what a service says."""

CUT: Final = "[key]"


class Answer(NamedTuple):
    """What an API answered.

    Attributes:
        status: HTTP status.
        body: Decompressed.
        retry_after_s: How long it asks to wait, None if it does not say.
    """

    status: int
    body: bytes
    retry_after_s: float | None

    @property
    def is_success(self) -> bool:
        """Whether the status says that it was done."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_mistake(self) -> bool:
        """Whether the status says that the same request will never be done."""
        is_4xx = HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR
        return is_4xx and self.status not in _PASSING

    def fields(self) -> dict[str, object]:
        """Return the fields of the JSON object that the body is, none if it is not one."""
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return document if isinstance(document, dict) else {}


@contextmanager
def transport_failures(doing: str, timeout_s: float) -> Iterator[None]:
    """Translate failures below HTTP.

    Args:
        doing: What the service did not do, as the beginning of a sentence.
        timeout_s: How long it had.

    Raises:
        UpstreamUnavailable: For each of them.
    """
    try:
        yield
    except TimeoutError as error:
        raise UpstreamUnavailable(f"{doing}: it took longer than {timeout_s:g} s.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamUnavailable(f"{doing}: {explain(error)}.") from error


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
    doing: str,
    *,
    idle_s: float,
    headers: Mapping[str, str] | None = None,
) -> aiohttp.ClientResponse:
    """Ask for a file; return the answer, of whatever status, before its body.

    Args:
        session: Carries the request; it must not have credentials of its own.
        url: Where the file is.
        doing: What the service did not do if this fails, as the beginning of a sentence.
        idle_s: How long the head may take, and how long nothing may come of the body.
        headers: Sent along.

    Raises:
        UpstreamUnavailable: If no answer comes.
    """
    # The time between two bytes is no measure: a head that drips would never be late.
    with transport_failures(doing, idle_s), anyio.fail_after(idle_s):
        return await session.get(
            url,
            headers={**(headers or {}), "Accept-Encoding": "gzip"},
            timeout=aiohttp.ClientTimeout(connect=idle_s, sock_read=idle_s),
            allow_redirects=False,
            auto_decompress=False,
        )


async def read_file(
    response: aiohttp.ClientResponse, doing: str, *, idle_s: float
) -> AsyncGenerator[bytes, None]:
    """Yield a file's bytes as they arrive, at most `PIECE_BYTES` at a time, packed or not.

    Raises:
        FileRejected: `truncated`, if less comes than was announced.
        UpstreamUnavailable: If nothing comes any more.
    """
    with transport_failures(doing, idle_s):
        try:
            async for chunk in response.content.iter_chunked(PIECE_BYTES):
                yield chunk
        except aiohttp.ClientPayloadError as error:
            raise FileRejected("truncated", "The file ended before all of it came.") from error


def parse_link(text: str | None, *, base: URL) -> URL | None:
    """Return a link for which it is safe to be followed, else None.

    It leads to a web address, and not from an encrypted place to one that is not. Its escapes
    stay as they are, since signatures of links count every character.

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


def words(texts: Iterable[object], secrets: Iterable[str]) -> str:
    """Return what a service says as one line that is fit for a log: short, and without secrets."""
    said = " ".join(text for text in texts if isinstance(text, str))
    if not said.isprintable():
        said = "".join(sign if sign.isprintable() else " " for sign in said)
    line = " ".join(said.split())
    for secret in filter(None, secrets):
        line = line.replace(secret, CUT)
    return line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]}…"
