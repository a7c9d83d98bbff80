"""Reading a request's body: bounded in size and time, decompressed by us.

aiohttp would decompress by itself, without telling a broken body from a slow one and
without our limit; the doors switch that off.
"""

import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from math import inf

import anyio
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from relay.errors import PayloadError

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of one body, before and after decompression, unless its reader says otherwise."""

MAX_GZIP_MEMBERS = 100
"""A sender writes one; each further one costs a copy of what follows it."""

BODY_TIMEOUT_S = 30.0
"""For a whole body to come in."""

CHUNK_TIMEOUT_S = 30.0
"""For the next piece of a body of any length."""

STOP_GRACE_S = 3.0
"""What a body that is still coming gets when the daemon is asked to stop."""

_GZIP_WINDOW = 31
_PLAIN = frozenset({"", "identity"})
_GZIP = frozenset({"gzip", "x-gzip"})


class BodyReader:
    """Reads the bodies of one door."""

    def __init__(self, *, invites: bool = True) -> None:
        """Make a reader; one that `invites` answers `Expect: 100-continue` itself."""
        self._invites = invites
        self._incoming: set[anyio.CancelScope] = set()
        self._ends_s = inf

    def stop(self) -> None:
        """Give bodies that are still coming a last few seconds."""
        self._ends_s = anyio.current_time() + STOP_GRACE_S
        for scope in self._incoming:
            scope.deadline = min(scope.deadline, self._ends_s)

    async def read(
        self,
        request: web.BaseRequest,
        *,
        limit_bytes: int = MAX_BODY_BYTES,
        hold: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return the body as it came, still compressed.

        Args:
            request: The request.
            limit_bytes: How long it may be.
            hold: Told the length of every piece that comes; may refuse to hold it.

        Raises:
            web.HTTPRequestEntityTooLarge: Past the limit.
            web.HTTPRequestTimeout: If it takes too long.
            web.HTTPServiceUnavailable: If the daemon stops before it is here.
            web.HTTPBadRequest: If it breaks off.
        """
        _check_size(request.content_length or 0, limit_bytes)
        if self._invites and request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun
        content = request.content
        first = await content.readany() if content.is_eof() else b""
        if hold:
            hold(len(first))
        if content.at_eof():
            _check_size(len(first), limit_bytes)
            return first
        return await self._read_rest(request, bytearray(first), limit_bytes, hold)

    async def chunks(self, request: web.BaseRequest) -> AsyncGenerator[bytes]:
        """Yield a body of any length piece by piece, still compressed.

        Raises:
            web.HTTPRequestTimeout: If a piece takes too long.
            web.HTTPServiceUnavailable: If the daemon stops before all is here.
            web.HTTPBadRequest: If it breaks off.
        """
        _check_there(request)
        is_whole = False
        while not is_whole:
            with self._waiting(CHUNK_TIMEOUT_S):
                chunk = await request.content.readany()
            is_whole = not chunk
            if chunk:
                yield chunk

    async def _read_rest(
        self,
        request: web.BaseRequest,
        body: bytearray,
        limit_bytes: int,
        hold: Callable[[int], None] | None,
    ) -> bytes:
        _check_there(request)
        with self._waiting(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                _check_size(len(body), limit_bytes)
                if hold:
                    hold(len(chunk))
        return bytes(body)

    @contextmanager
    def _waiting(self, limit_s: float) -> Iterator[None]:
        """Bound a wait for bytes, by its limit and by the end of the daemon."""
        deadline_s = min(anyio.current_time() + limit_s, self._ends_s)
        with anyio.CancelScope(deadline=deadline_s) as scope:
            self._incoming.add(scope)
            try:
                yield
            except (ConnectionError, HttpProcessingError, ClientError) as error:
                raise web.HTTPBadRequest(text="the body broke off") from error
            finally:
                self._incoming.discard(scope)
        if scope.cancelled_caught:
            if self._ends_s < inf:
                raise web.HTTPServiceUnavailable(text="relay is stopping")
            raise web.HTTPRequestTimeout(text=f"the body did not come within {limit_s:g} s")


def check_encoding(request: web.BaseRequest) -> bool:
    """Return whether the body is compressed.

    Raises:
        web.HTTPUnsupportedMediaType: If it is so in a way relay does not know.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in _PLAIN:
        return False
    if encoding in _GZIP:
        return True
    raise web.HTTPUnsupportedMediaType(text="send the body plain or as gzip")


def decompress(body: bytes, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return the content of a gzip body of one member or several.

    Raises:
        PayloadError: If it is broken or cut.
        web.HTTPRequestEntityTooLarge: If it is larger than a body may be.
    """
    content = bytearray()
    rest = body
    for _ in range(MAX_GZIP_MEMBERS):
        if not rest:
            break
        gunzip = zlib.decompressobj(_GZIP_WINDOW)
        try:
            content += gunzip.decompress(rest, limit_bytes + 1 - len(content))
        except zlib.error as error:
            raise PayloadError("broken_gzip", "the body is not valid gzip") from error
        if len(content) > limit_bytes:
            content.clear()  # an error may live on for a while, and its frames with it
            raise _too_large(limit_bytes)
        if not gunzip.eof:
            raise PayloadError("broken_gzip", "the gzip body ends too early")
        rest = gunzip.unused_data
    if rest or not body:
        raise PayloadError("broken_gzip", "the gzip body is empty or a mass of tiny members")
    return bytes(content)


def _check_there(request: web.BaseRequest) -> None:
    """Raise an HTTP error if the sender left before anything was read; aiohttp would not say so."""
    if request.transport is None:
        raise web.HTTPBadRequest(text="the body broke off")


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise _too_large(limit_bytes)


def _too_large(limit_bytes: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(
        max_size=limit_bytes,
        actual_size=limit_bytes + 1,
        text=f"a body may have {limit_bytes} bytes, decompressed",
    )
