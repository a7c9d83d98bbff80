"""Request bodies: bounded in size, time and memory, and decompressed here.

aiohttp's own decompression has no limit and does not tell a broken body from a slow one; the
doors switch it off.
"""

import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from math import inf
from types import TracebackType
from typing import Final, Self

import anyio
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from relay.errors import PayloadError
from relay.http.responses import unavailable

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Of one body, before and after decompression, unless its route says otherwise."""

MAX_GZIP_MEMBERS: Final = 100
"""Clients write one; each further one costs a copy of the rest of the body."""

BODY_TIMEOUT_S: Final = 30.0
"""For a whole body to arrive."""

CHUNK_TIMEOUT_S: Final = 30.0
"""For the next piece of a body of unlimited length."""

STOP_GRACE_S: Final = 3.0
"""For bodies still arriving when the daemon is asked to stop."""

MOST_HELD_BYTES: Final = 64 * 1024 * 1024
"""Bodies a door holds at once, of all its requests together."""

BROKEN_OFF: Final = "the connection closed before the body was complete"

SMALL_BYTES: Final = 32 * 1024
"""Bodies up to this size are always read: many times what one event takes."""

_GZIP_WINDOW: Final = 31
_PLAIN: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})


class BodyBudget:
    """How many bytes of bodies a door holds at once.

    Clients can send slowly, much and often, and a slow disk makes every body wait: past the
    budget a request is answered 503. Small bodies are always read, so that a few large slow ones
    keep nobody else out; their number is bounded by the connection limit.
    """

    def __init__(self, most_bytes: int = MOST_HELD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0

    def reserve(self) -> "Reservation":
        """Return the reservation of one request: a `with` block around its answer."""
        return Reservation(self)

    def change(self, more_bytes: int) -> bool:
        """Add to the bytes held (or subtract) and return whether they are within the budget."""
        self._held_bytes += more_bytes
        return self._held_bytes <= self._most_bytes


class Reservation:
    """The part of a body budget that one request uses."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def grow(self, more_bytes: int) -> None:
        """Reserve more.

        Raises:
            web.HTTPServiceUnavailable: If the budget is used up and this body is not small.
        """
        self._bytes += more_bytes
        is_within = self._budget.change(more_bytes)
        if not is_within and self._bytes > SMALL_BYTES:
            raise unavailable("too much is being sent at once")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._budget.change(-self._bytes)


class BodyReader:
    """Reads the bodies of one door."""

    def __init__(self, *, invites: bool = True) -> None:
        """Make a reader.

        Args:
            invites: Whether it answers `Expect: 100-continue` itself; aiohttp's applications do.
        """
        self._invites = invites
        self._incoming: set[anyio.CancelScope] = set()
        self._ends_s = inf

    def stop(self) -> None:
        """Give bodies that are still arriving `STOP_GRACE_S`."""
        self._ends_s = anyio.current_time() + STOP_GRACE_S
        for scope in self._incoming:
            scope.deadline = min(scope.deadline, self._ends_s)

    async def read(
        self,
        request: web.BaseRequest,
        *,
        limit_bytes: int = MAX_BODY_BYTES,
        reservation: Reservation | None = None,
    ) -> bytes:
        """Return the body as received, still compressed.

        Args:
            request: The request.
            limit_bytes: Its largest size.
            reservation: Grows with every piece that arrives.

        Raises:
            web.HTTPRequestEntityTooLarge: Past the limit.
            web.HTTPRequestTimeout: If it takes longer than `BODY_TIMEOUT_S`.
            web.HTTPServiceUnavailable: If the budget is used up, or the daemon stops meanwhile.
            web.HTTPBadRequest: If the connection breaks off.
        """
        _check_size(request.content_length or 0, limit_bytes)
        if self._invites and request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun
        content = request.content
        first = await content.readany() if content.is_eof() else b""
        if reservation:
            reservation.grow(len(first))
        # Most bodies arrive in one piece with their head: no timeout scope, no copy.
        if content.at_eof():
            _check_size(len(first), limit_bytes)
            return first
        return await self._read_rest(request, bytearray(first), limit_bytes, reservation)

    async def chunks(self, request: web.BaseRequest) -> AsyncGenerator[bytes]:
        """Yield a body of unlimited length in pieces, still compressed.

        Raises:
            web.HTTPRequestTimeout: If a piece takes longer than `CHUNK_TIMEOUT_S`.
            web.HTTPServiceUnavailable: If the daemon stops meanwhile.
            web.HTTPBadRequest: If the connection breaks off.
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
        reservation: Reservation | None,
    ) -> bytes:
        _check_there(request)
        with self._waiting(BODY_TIMEOUT_S):
            async for chunk in request.content.iter_any():
                body += chunk
                _check_size(len(body), limit_bytes)
                if reservation:
                    reservation.grow(len(chunk))
        return bytes(body)

    @contextmanager
    def _waiting(self, limit_s: float) -> Iterator[None]:
        """Bound a wait for bytes by its timeout and by the daemon's stop."""
        deadline_s = min(anyio.current_time() + limit_s, self._ends_s)
        with anyio.CancelScope(deadline=deadline_s) as scope:
            self._incoming.add(scope)
            try:
                yield
            except (ConnectionError, HttpProcessingError, ClientError) as error:
                raise web.HTTPBadRequest(text=BROKEN_OFF) from error
            finally:
                self._incoming.discard(scope)
        if scope.cancelled_caught:
            if self._ends_s < inf:
                raise web.HTTPServiceUnavailable(text="relay is stopping")
            raise web.HTTPRequestTimeout(text=f"the body did not come within {limit_s:g} s")


def check_encoding(request: web.BaseRequest) -> bool:
    """Return whether the body is compressed.

    Raises:
        web.HTTPUnsupportedMediaType: If its encoding is neither plain nor gzip.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in _PLAIN:
        return False
    if encoding in _GZIP:
        return True
    raise web.HTTPUnsupportedMediaType(text="send the body plain or as gzip")


def decompress(body: bytes, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return the content of a gzip body of one or several members.

    Raises:
        PayloadError: If it is broken or truncated.
        web.HTTPRequestEntityTooLarge: If its content is larger than `limit_bytes`.
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
            content.clear()  # the error's traceback would keep it in memory
            raise _too_large(limit_bytes)
        if not gunzip.eof:
            raise PayloadError("broken_gzip", "the gzip body ends too early")
        rest = gunzip.unused_data
    if rest or not body:
        raise PayloadError("broken_gzip", "the gzip body is empty or has too many members")
    return bytes(content)


def _check_there(request: web.BaseRequest) -> None:
    """Raise an HTTP error if the client has disconnected; aiohttp would wait for the body."""
    if request.transport is None:
        raise web.HTTPBadRequest(text=BROKEN_OFF)


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise _too_large(limit_bytes)


def _too_large(limit_bytes: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(
        max_size=limit_bytes,
        actual_size=limit_bytes + 1,
        text=f"a body may have {limit_bytes} bytes, decompressed",
    )
