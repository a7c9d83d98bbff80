"""Peers that stall a door, each until its timeout."""

import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from aiohttp import web
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream

from relay.http.server.body import BodyReader
from relay.http.server.connections import Connections, Timeouts
from relay.http.server.listener import app_runner, open_door, plain_runner
from tests.support.certificates import AUTHORITY

T = TypeVar("T")

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

SHORT_S, LONG_S = 0.3, 30.0
"""A timeout that a test waits for, and one that it does not."""

DEADLINE_S = 5.0

CROWD = 200

ANSWER_BYTES = 16 * 1024 * 1024
"""More than the socket buffers of a reader that does not read."""


@dataclass(frozen=True)
class Loopback:
    """Where the test's doors listen."""

    host: str = "127.0.0.1"
    port: int = 0


PATIENT = Timeouts(head_s=LONG_S, idle_s=LONG_S, stall_s=LONG_S, check_s=0.05)


class Door:
    """A door of the test.

    Attributes:
        connections: Its open connections.
        in_flight: Requests being answered.
        answered: Requests answered so far.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.in_flight = self.answered = 0
        self._released = anyio.Event()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer small, large, or only once released."""
        self.in_flight += 1
        try:
            if request.path == "/later":
                await self._released.wait()
            size = ANSWER_BYTES if request.path == "/large" else 2
            return web.Response(body=bytes(size))
        finally:
            self.in_flight -= 1
            self.answered += 1

    def release(self) -> None:
        """Let the waiting requests be answered."""
        self._released.set()

    async def answering(self, requests: int) -> None:
        """Return once this many requests are in flight."""
        with anyio.fail_after(DEADLINE_S):
            while self.in_flight != requests:
                await anyio.sleep(0.01)

    async def emptied(self) -> None:
        """Return once no connection is open."""
        await self.until(0)

    async def until(self, count: int) -> None:
        """Return once this many connections are open."""
        with anyio.fail_after(DEADLINE_S):
            while len(self.connections) != count:
                await anyio.sleep(0.01)


@asynccontextmanager
async def serving(
    door: Door, *, is_app: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve a door with the limits of the public or the admin door; yield its port."""
    if is_app:
        app = web.Application()
        app.router.add_get("/{path:.*}", door.answer)
        runner = app_runner(app, door.connections)
    else:
        runner = plain_runner(door.answer, door.connections)
    async with open_door(runner, Loopback(), tls=tls) as port:
        yield port


async def ended_after(stream: SocketStream) -> float:
    """Return how long the door took to close a connection."""
    began_s = monotonic()
    with anyio.fail_after(DEADLINE_S):
        try:
            while True:
                await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return monotonic() - began_s


async def asked(stream: ByteStream, request: bytes = ASK) -> bytes:
    """Send a request and return the response."""
    await stream.send(request)
    with anyio.fail_after(DEADLINE_S):
        return await stream.receive()


@pytest.mark.parametrize("is_app", [False, True])
@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_slow_head_times_out(start: bytes, *, is_app: bool) -> None:
    """A steady drip does not extend the timeout, which counts from the first byte."""
    door = Door(Connections(timeouts=replace(PATIENT, head_s=SHORT_S)))
    async with (
        serving(door, is_app=is_app) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
        anyio.create_task_group() as dripping,
    ):
        dripping.start_soon(_drip, stream, start)
        assert SHORT_S * 0.8 < await ended_after(stream) < DEADLINE_S
        dripping.cancel_scope.cancel()
        await door.emptied()


async def _drip(stream: SocketStream, start: bytes) -> None:
    if not start:
        return
    await stream.send(start)
    while True:
        await anyio.sleep(0.02)
        await stream.send(b"x")


def door_tls() -> ssl.SSLContext:
    """Return the door's side of TLS."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost").configure_cert(tls)
    return tls


async def connect_tls(port: int) -> TLSStream:
    """Return a connection whose handshake is complete."""
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    stream = await anyio.connect_tcp(
        "127.0.0.1",
        port,
        ssl_context=client,
        tls_hostname="localhost",
        tls_standard_compatible=False,
    )
    assert isinstance(stream, TLSStream)
    return stream


HELLO = bytes.fromhex("16030100c8010000c40303")
"""The beginning of a handshake."""


@pytest.mark.parametrize("start", [b"", HELLO])
async def test_a_slow_handshake_times_out(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    """An unfinished handshake occupies a connection until its timeout, then it is closed."""
    monkeypatch.setattr("relay.http.server.tls.HANDSHAKE_S", SHORT_S)
    door = Door(Connections(timeouts=PATIENT))
    async with (
        serving(door, tls=door_tls()) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await stream.send(start)
        await door.until(1)
        assert await ended_after(stream) > SHORT_S * 0.8
        await door.emptied()


@pytest.mark.parametrize("words", [ASK, HELLO + bytes(200), b""])
async def test_plain_text_to_a_tls_door_is_closed_silently(
    caplog: pytest.LogCaptureFixture, words: bytes
) -> None:
    """No log line either: it would quote the peer."""
    door = Door(Connections(timeouts=PATIENT))
    async with (
        serving(door, tls=door_tls()) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await (stream.send(words) if words else stream.send_eof())
        assert await ended_after(stream) < DEADLINE_S
        await door.emptied()
    gc.collect()
    assert caplog.records == []


async def test_silent_connections_are_evicted_before_their_handshake() -> None:
    """Silent connections count against the limit, and TLS clients are still served."""
    door = Door(Connections(4, PATIENT))
    async with serving(door, tls=door_tls()) as port, AsyncExitStack() as stack:
        regular = await stack.enter_async_context(await connect_tls(port))
        assert b" 200 " in await asked(regular)
        silent = [
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            for _ in range(CROWD)
        ]
        for gone in silent[:-3]:
            await ended_after(gone)
        assert len(door.connections) == 4
        new = await stack.enter_async_context(await connect_tls(port))
        for known in (new, regular):
            assert b" 200 " in await asked(known)


@pytest.mark.parametrize("start", [b"", HELLO])
async def test_shutdown_does_not_wait_for_handshakes(start: bytes) -> None:
    """Unfinished handshakes are aborted before requests in flight are drained."""
    door = Door(Connections(timeouts=PATIENT))
    async with AsyncExitStack() as stack:
        async with serving(door, tls=door_tls()) as port:
            stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            await stream.send(start)
            await door.until(1)
            began_s = monotonic()
        assert monotonic() - began_s < DEADLINE_S
        await ended_after(stream)
        await door.emptied()


class BareTls:
    """A TLS client that sends each record when the test says so.

    Attributes:
        wire: Its connection.
    """

    def __init__(self, port: int) -> None:
        """Connect, and send the first part of the handshake."""
        client = ssl.create_default_context()
        AUTHORITY.configure_trust(client)
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client.wrap_bio(self._come, self._go, server_hostname="localhost")
        self.wire = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.wire.sendall(self._go.read())

    def ask(self) -> bytes:
        """Send a request in one packet with the end of the handshake; return the response."""
        self._receive_until(self._tls.do_handshake)
        self._tls.write(ASK)
        return self._receive_until(self._tls.read)

    def _receive_until(self, done: Callable[[], T]) -> T:
        while True:
            try:
                return done()
            except ssl.SSLWantReadError:
                self.wire.sendall(self._go.read())
                piece = self.wire.recv(1 << 16)
                assert piece, "the door has closed the connection"
                self._come.write(piece)


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_no_byte_around_a_handshake_is_lost(*, use_uvloop: bool) -> None:
    """Bytes before the door starts TLS and a request right behind the handshake both count."""

    async def shake_hands() -> None:
        door = Door(Connections(timeouts=PATIENT))
        async with serving(door, tls=door_tls()) as port:
            early = [BareTls(port) for _ in range(20)]  # no other task runs meanwhile
            for client in early:
                with client.wire:
                    assert b" 200 " in await anyio.to_thread.run_sync(client.ask)
            await door.emptied()

    anyio.run(shake_hands, backend_options={"use_uvloop": use_uvloop})


async def test_the_second_head_has_its_own_timeout() -> None:
    """Its timeout starts with its first byte, not with the connection."""
    door = Door(Connections(timeouts=replace(PATIENT, head_s=SHORT_S)))
    async with serving(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        for _ in range(4):
            assert b" 200 " in await asked(stream)
            await anyio.sleep(SHORT_S / 2)  # idle connections have their own timeout
        await stream.send(ASK[:20])
        assert await ended_after(stream) > SHORT_S * 0.8


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    """A kept-alive connection without a further request is closed."""
    door = Door(Connections(timeouts=replace(PATIENT, idle_s=SHORT_S)))
    async with serving(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        assert b" 200 " in await asked(stream)
        assert await ended_after(stream) > SHORT_S * 0.8


async def test_the_length_of_a_head_is_bounded() -> None:
    """Many header lines of an allowed length are too much together."""
    door = Door(Connections(timeouts=replace(PATIENT, head_bytes=8192)))
    async with serving(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(ASK[:-2])
        for _ in range(100):
            await anyio.sleep(0.001)
            try:
                await stream.send(b"X-Long: " + b"a" * 1000 + b"\r\n")
            except anyio.BrokenResourceError:
                break
        await ended_after(stream)
        await door.emptied()


@pytest.mark.parametrize("is_app", [False, True])
async def test_an_unread_response_times_out(*, is_app: bool) -> None:
    """An unread response is held in memory."""
    door = Door(Connections(timeouts=replace(PATIENT, stall_s=SHORT_S)))
    async with (
        serving(door, is_app=is_app) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await stream.send(ASK.replace(b"/", b"/large", 1))
        await door.until(1)
        await door.emptied()


async def test_a_slow_reader_gets_its_response() -> None:
    """Slow progress gets more time than no progress."""
    door = Door(Connections(timeouts=replace(PATIENT, stall_s=SHORT_S)))
    async with serving(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(ASK.replace(b"/", b"/large", 1))
        began_s, taken = monotonic(), 0
        with anyio.fail_after(DEADLINE_S * 4):
            while taken < ANSWER_BYTES:
                taken += len(await stream.receive(1 << 18))
                await anyio.sleep(SHORT_S / 20)
        assert monotonic() - began_s > SHORT_S * 2


async def test_a_closing_connection_times_out_sooner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After `Connection: close` only the rest of the response is to come."""
    monkeypatch.setattr("relay.http.server.protocol.FLUSH_S", SHORT_S)
    door = Door(Connections(timeouts=PATIENT))
    async with serving(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        close = b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        await stream.send(close)
        await stream.receive(1)
        await stream.send_eof()
        await door.emptied()


async def test_a_full_door_evicts_idle_connections() -> None:
    """Evicted first: connections without a request, then the longest idle; never one in flight."""
    door = Door(Connections(4, PATIENT))
    async with serving(door) as port, AsyncExitStack() as stack:

        async def come() -> SocketStream:
            return await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))

        busy, early, late = await come(), await come(), await come()
        await busy.send(ASK.replace(b"/", b"/later", 1))
        for known in (early, late, early):
            assert b" 200 " in await asked(known)
        idle = await come()
        await door.until(4)
        news = [await come()]
        await ended_after(idle)
        assert b" 200 " in await asked(news[0])
        news.append(await come())
        await ended_after(late)
        assert b" 200 " in await asked(news[1])
        news.append(await come())
        await ended_after(early)
        assert door.in_flight == 1
        door.release()
        with anyio.fail_after(DEADLINE_S):
            assert b" 200 " in await busy.receive()


async def test_a_slow_sender_is_evicted_last() -> None:
    """Where all others are in flight, a slow sender is evicted although it is authenticated."""
    door = Door(Connections(2, PATIENT))
    async with serving(door) as port, AsyncExitStack() as stack:

        async def come() -> SocketStream:
            return await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))

        busy, slow = await come(), await come()
        await busy.send(ASK.replace(b"/", b"/later", 1))
        body = b"POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        await slow.send(body)
        await door.answering(2)
        new = await come()
        await ended_after(slow)
        assert b" 200 " in await asked(new)
        door.release()
        with anyio.fail_after(DEADLINE_S):
            assert b" 200 " in await busy.receive()


async def test_a_vanished_sender_is_not_an_error() -> None:
    """The sender may disappear at any moment, here by eviction."""
    bodies, outcomes = BodyReader(), set()

    async def take(request: web.BaseRequest) -> web.Response:
        try:
            await bodies.read(request)
        except Exception as error:
            outcomes.add(type(error))
            raise
        return web.Response()

    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    async with open_door(plain_runner(take, Connections(1, PATIENT)), Loopback()) as port:
        for moment in range(60):
            with socket.create_connection(("127.0.0.1", port)) as sender:
                sender.sendall(head + b"[]")
                for _ in range(moment % 6):
                    await anyio.lowlevel.checkpoint()
                with socket.create_connection(("127.0.0.1", port)):
                    for _ in range(moment % 5):
                        await anyio.lowlevel.checkpoint()
    assert outcomes == {web.HTTPBadRequest}


async def test_where_all_are_being_answered_a_new_is_turned_away() -> None:
    """A request in flight is never dropped for a connection that may send nothing."""
    door = Door(Connections(2, PATIENT))
    async with serving(door) as port, AsyncExitStack() as stack:
        for _ in range(2):
            busy = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            await busy.send(ASK.replace(b"/", b"/later", 1))
        await door.answering(2)
        new = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        await ended_after(new)
        assert door.in_flight == 2
        door.release()


async def test_pipelining_delays_no_other_client() -> None:
    """Pipelined requests share one semaphore, which other requests never wait for."""
    door = Door(Connections(timeouts=PATIENT))
    async with serving(door) as port, anyio.create_task_group() as crowd:
        for _ in range(CROWD):
            crowd.start_soon(_ask_ahead, port)
        await door.until(CROWD)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            before_me = []
            for _ in range(11):
                answered = door.answered
                assert b" 200 " in await asked(stream)
                before_me.append(door.answered - answered)
        crowd.cancel_scope.cancel()
    assert sorted(before_me)[5] < CROWD


async def _ask_ahead(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        while True:
            await stream.send(ASK * 200)
