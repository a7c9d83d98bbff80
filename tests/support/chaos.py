"""A proxy that spoils connections between relay and a stand-in, each in the same way.

A `Fault` is what happens to a connection. While none is set, bytes pass. A change of fault
drops every open connection, so that a kept-alive one cannot outlive it.
"""

import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import anyio
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener
from yarl import URL

from relay.clock import SystemClock

PIECE_BYTES = 65_536
_LINGER_ZERO = struct.pack("ii", 1, 0)
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)

Fault: TypeAlias = Callable[[ByteStream, URL], Awaitable[None]]
"""Handles a connection to the service at that URL; the connection closes when it returns."""


class Chaos:
    """The proxy, running.

    Attributes:
        url: Where it listens.
        connections: Connections accepted so far.
    """

    def __init__(self, url: URL, target: URL) -> None:
        self.url = url
        self._target = target
        self._fault: Fault = passing
        self._present: set[anyio.CancelScope] = set()
        self.connections = 0

    def set(self, fault: Fault | None) -> None:
        """Apply this fault from now on, None = no fault; drop all open connections."""
        self._fault = fault or passing
        for scope in self._present:
            scope.cancel()

    async def serve(self, client: ByteStream) -> None:
        """Apply the current fault to a connection."""
        self.connections += 1
        scope = anyio.CancelScope()
        self._present.add(scope)
        try:
            with scope:
                await self._fault(client, self._target)
        except* _GONE:
            pass
        finally:
            self._present.discard(scope)
            with anyio.CancelScope(shield=True), anyio.move_on_after(0.1):
                await anyio.aclose_forcefully(client)


@asynccontextmanager
async def chaos(target: URL, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Chaos]:
    """Run a proxy in front of a service on loopback while the block runs.

    Args:
        target: The service.
        tls: TLS to speak to clients; None = plain.
    """
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = plain.extra(SocketAttribute.local_port)
    scheme = "https" if tls else "http"
    # Certificates need a host name; every machine resolves this one.
    proxy = Chaos(URL.build(scheme=scheme, host="localhost", port=port), target)
    listener = TLSListener(plain, tls, standard_compatible=False) if tls else plain
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()


# Faults while bytes are forwarded.


async def passing(client: ByteStream, target: URL) -> None:
    """Forward everything."""
    await _between(client, target)


def dripping_answer(wait_s: float) -> Fault:
    """Forward the response byte by byte."""
    return lambda client, target: _between(client, target, back=_drip(wait_s))


def dripping_request(wait_s: float) -> Fault:
    """Forward the request byte by byte."""
    return lambda client, target: _between(client, target, there=_drip(wait_s))


def reset_in_request(after_bytes: int) -> Fault:
    """Reset the connection after this many bytes of the request."""

    async def spoil(client: ByteStream, _: URL) -> None:
        left = after_bytes
        while left > 0:
            left -= len(await client.receive(left))
        _reset(client)

    return spoil


def reset_in_answer(after_bytes: int) -> Fault:
    """Reset after this many bytes of the response; the service has done its part."""

    async def spoil(client: ByteStream, target: URL) -> None:
        await _between(client, target, back=_first(after_bytes))
        _reset(client)

    return spoil


def cut_answer(after_bytes: int) -> Fault:
    """Close the connection in order after this many bytes of the response."""
    return lambda client, target: _between(client, target, back=_first(after_bytes))


# Faults instead of a response.


async def hanging(_client: ByteStream, _target: URL) -> None:
    """Neither read nor write."""
    await anyio.sleep_forever()


async def black_hole(client: ByteStream, _: URL) -> None:
    """Read everything and write nothing."""
    async for _piece in client:
        pass


async def half_closed(client: ByteStream, _: URL) -> None:
    """Close the sending side at once and keep reading."""
    await client.send_eof()
    async for _piece in client:
        pass


def saying(answer: bytes, *, then: bytes = b"", gap_s: float = 0.0) -> Fault:
    """Answer any request with these bytes, then repeat `then` without end.

    Args:
        answer: From the status line on.
        then: Repeated until the client is gone; empty = the connection ends.
        gap_s: Pause before each repetition.
    """

    async def spoil(client: ByteStream, _: URL) -> None:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += await client.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_swallow, client)  # otherwise sending the request would fail first
            await client.send(answer)
            while then:
                await client.send(then)
                await anyio.sleep(gap_s)
            await client.send_eof()
            with anyio.move_on_after(0.2):
                await anyio.sleep_forever()
            tasks.cancel_scope.cancel()

    return spoil


def head(status: str = "200 OK", *lines: str) -> bytes:
    """Return a response head for JSON."""
    every = (f"HTTP/1.1 {status}", "Content-Type: application/json", *lines, "", "")
    return "\r\n".join(every).encode()


def bomb_block() -> bytes:
    """Return a kilobyte that decompresses to a megabyte and can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)


GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"


# Ports that do not accept.


@contextmanager
def unanswered() -> Iterator[URL]:
    """Yield a URL whose first packets are never answered."""
    with closing(socket.socket()) as door, closing(socket.socket()) as first:
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        first.connect(door.getsockname())  # the accept queue is full
        yield URL.build(scheme="http", host="127.0.0.1", port=door.getsockname()[1])


@contextmanager
def refusing() -> Iterator[URL]:
    """Yield a URL where connections are refused."""
    with closing(socket.socket()) as door:
        door.bind(("127.0.0.1", 0))
        yield URL.build(scheme="http", host="127.0.0.1", port=door.getsockname()[1])


class Certificates:
    """An untrusted authority, and the certificates it issues."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def trusting(self) -> ssl.SSLContext:
        """Return a client context that trusts the authority."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    def server(self, host: str = "localhost", *, days_from_now: int = 1) -> ssl.SSLContext:
        """Return a server context with a certificate for a host.

        Args:
            host: The name in the certificate.
            days_from_now: When it expires; it became valid ten days before.
        """
        now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
        ends = now + timedelta(days=days_from_now)
        certificate = self._authority.issue_cert(
            host, not_before=ends - timedelta(days=10), not_after=ends
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


# Bytes.

_Pump: TypeAlias = Callable[[ByteStream, ByteStream], Coroutine[None, None, None]]


async def _carry(source: ByteStream, sink: ByteStream) -> None:
    try:
        async for piece in source:
            await sink.send(piece)
    except _GONE:
        pass


async def _between(
    client: ByteStream, target: URL, *, there: _Pump = _carry, back: _Pump = _carry
) -> None:
    """Forward bytes both ways until the service closes or `back` returns."""
    assert target.host is not None
    assert target.port is not None
    async with (
        await anyio.connect_tcp(target.host, target.port) as service,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(there, client, service)
        await back(service, client)
        tasks.cancel_scope.cancel()


def _drip(wait_s: float) -> _Pump:
    async def drip(source: ByteStream, sink: ByteStream) -> None:
        async for piece in source:
            for byte in piece:
                await anyio.sleep(wait_s)
                await sink.send(bytes([byte]))

    return drip


def _first(count: int) -> _Pump:
    async def carry_first(source: ByteStream, sink: ByteStream) -> None:
        left = count
        while left > 0:
            piece = await source.receive(min(left, PIECE_BYTES))
            await sink.send(piece)
            left -= len(piece)

    return carry_first


async def _swallow(client: ByteStream) -> None:
    try:
        async for _ in client:
            pass
    except _GONE:
        pass


def _reset(client: ByteStream) -> None:
    raw: socket.socket = client.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
