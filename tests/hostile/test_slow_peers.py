"""Peers that keep a door waiting, each until its timeout."""

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
"""More than the system takes in for a reader who does not read."""


@dataclass(frozen=True)
class Loopback:
    """Where the test's doors listen."""

    host: str = "127.0.0.1"
    port: int = 0


PATIENT = Timeouts(head_s=LONG_S, idle_s=LONG_S, stall_s=LONG_S, check_s=0.05)


class Door:
    """A door of the test.

    Attributes:
        connections: Who is connected.
        under_way: How many requests are being answered.
        answered: How many were.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.in_flight = self.answered = 0
        self._released = anyio.Event()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer small, large, or only when released."""
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
        """Have answered what waits."""
        self._released.set()

    async def answering(self, requests: int) -> None:
        """Return once so many requests are being answered."""
        with anyio.fail_after(DEADLINE_S):
            while self.in_flight != requests:
                await anyio.sleep(0.01)

    async def emptied(self) -> None:
        """Return once nobody is connected."""
        await self.until(0)

    async def until(self, count: int) -> None:
        """Return once so many are connected."""
        with anyio.fail_after(DEADLINE_S):
            while len(self.connections) != count:
                await anyio.sleep(0.01)


@asynccontextmanager
async def standing(
    door: Door, *, is_app: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve a door, like the public one or like the admin one; give its port."""
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
    """Send a request and return what is answered."""
    await stream.send(request)
    with anyio.fail_after(DEADLINE_S):
        return await stream.receive()


@pytest.mark.parametrize("is_app", [False, True])
@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_head_that_does_not_come_is_not_waited_for(start: bytes, *, is_app: bool) -> None:
    """However steadily it drips: what counts is when it began."""
    door = Door(Connections(timeouts=replace(PATIENT, head_s=SHORT_S)))
    async with (
        standing(door, is_app=is_app) as port,
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
    """Return what a door of the test proves its name with."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost").configure_cert(tls)
    return tls


async def connect_tls(port: int) -> TLSStream:
    """Return a connection whose handshake is over."""
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
async def test_a_handshake_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    """Who does not shake hands is a guest for a while, and then is none."""
    monkeypatch.setattr("relay.http.server.handshakes.HANDSHAKE_S", SHORT_S)
    door = Door(Connections(timeouts=PATIENT))
    async with (
        standing(door, tls=door_tls()) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await stream.send(start)
        await door.until(1)
        assert await ended_after(stream) > SHORT_S * 0.8
        await door.emptied()


@pytest.mark.parametrize("words", [ASK, HELLO + bytes(200), b""])
async def test_who_does_not_speak_tls_is_left_without_a_word(
    caplog: pytest.LogCaptureFixture, words: bytes
) -> None:
    """Nor with a line in the log: it would quote him."""
    door = Door(Connections(timeouts=PATIENT))
    async with (
        standing(door, tls=door_tls()) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await (stream.send(words) if words else stream.send_eof())
        assert await ended_after(stream) < DEADLINE_S
        await door.emptied()
    gc.collect()
    assert caplog.records == []


async def test_those_who_keep_silent_make_room_before_their_handshake() -> None:
    """A crowd of them is held to the door's number, and whoever speaks TLS is served."""
    door = Door(Connections(4, PATIENT))
    async with standing(door, tls=door_tls()) as port, AsyncExitStack() as stack:
        regular = await stack.enter_async_context(await connect_tls(port))
        assert b" 200 " in await asked(regular)
        silent = [
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            for _ in range(CROWD)
        ]
        for gone in silent[:-3]:
            await ended_after(gone)
        assert len(door.connections) == 4
        newcomer = await stack.enter_async_context(await connect_tls(port))
        for known in (newcomer, regular):
            assert b" 200 " in await asked(known)


@pytest.mark.parametrize("start", [b"", HELLO])
async def test_a_closing_door_does_not_wait_for_handshakes(start: bytes) -> None:
    """They are cut before those who have asked something are settled with."""
    door = Door(Connections(timeouts=PATIENT))
    async with AsyncExitStack() as stack:
        async with standing(door, tls=door_tls()) as port:
            stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            await stream.send(start)
            await door.until(1)
            began_s = monotonic()
        assert monotonic() - began_s < DEADLINE_S
        await ended_after(stream)
        await door.emptied()


class BareTls:
    """A client whose every piece is sent when the test says so.

    Attributes:
        wire: Its connection.
    """

    def __init__(self, port: int) -> None:
        """Connect, and send the first piece of the handshake."""
        client = ssl.create_default_context()
        AUTHORITY.configure_trust(client)
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client.wrap_bio(self._come, self._go, server_hostname="localhost")
        self.wire = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.wire.sendall(self._go.read())

    def ask(self) -> bytes:
        """Send a request in one piece with the last one of the handshake; return the answer."""
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
def test_neither_end_of_a_handshake_is_lost(*, use_uvloop: bool) -> None:
    """Begun before the door looks, as most are; and with a request right behind its last words."""

    async def shake_hands() -> None:
        door = Door(Connections(timeouts=PATIENT))
        async with standing(door, tls=door_tls()) as port:
            early = [BareTls(port) for _ in range(20)]  # nothing else runs meanwhile
            for client in early:
                with client.wire:
                    assert b" 200 " in await anyio.to_thread.run_sync(client.ask)
            await door.emptied()

    anyio.run(shake_hands, backend_options={"use_uvloop": use_uvloop})


async def test_the_second_head_has_its_own_time() -> None:
    """It begins with its first byte, long after the connection did; the first request's is over."""
    door = Door(Connections(timeouts=replace(PATIENT, head_s=SHORT_S)))
    async with standing(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        for _ in range(4):
            assert b" 200 " in await asked(stream)
            await anyio.sleep(SHORT_S / 2)  # idle: as long as it likes
        await stream.send(ASK[:20])
        assert await ended_after(stream) > SHORT_S * 0.8


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    """One that has been served, and then has nothing more to ask."""
    door = Door(Connections(timeouts=replace(PATIENT, idle_s=SHORT_S)))
    async with standing(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        assert b" 200 " in await asked(stream)
        assert await ended_after(stream) > SHORT_S * 0.8


async def test_a_head_has_a_length_that_is_enough() -> None:
    """Many lines of the length that each may have are too much together."""
    door = Door(Connections(timeouts=replace(PATIENT, head_bytes=8192)))
    async with standing(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
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
async def test_who_does_not_take_an_answer_is_left(*, is_app: bool) -> None:
    """The answer is held in memory meanwhile."""
    door = Door(Connections(timeouts=replace(PATIENT, stall_s=SHORT_S)))
    async with (
        standing(door, is_app=is_app) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await stream.send(ASK.replace(b"/", b"/large", 1))
        await door.until(1)
        await door.emptied()


async def test_who_takes_an_answer_slowly_is_waited_for() -> None:
    """Longer than anybody is who takes nothing at all."""
    door = Door(Connections(timeouts=replace(PATIENT, stall_s=SHORT_S)))
    async with standing(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(ASK.replace(b"/", b"/large", 1))
        began_s, taken = monotonic(), 0
        with anyio.fail_after(DEADLINE_S * 4):
            while taken < ANSWER_BYTES:
                taken += len(await stream.receive(1 << 18))
                await anyio.sleep(SHORT_S / 20)
        assert monotonic() - began_s > SHORT_S * 2


async def test_a_closed_connection_does_not_wait_for_its_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After `Connection: close` nothing but the rest of the answer is to come."""
    monkeypatch.setattr("relay.http.server.protocol.FLUSH_S", SHORT_S)
    door = Door(Connections(timeouts=PATIENT))
    async with standing(door) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        close = b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        await stream.send(close)
        await stream.receive(1)
        await stream.send_eof()
        await door.emptied()


async def test_a_full_door_makes_room() -> None:
    """First goes who never asked, then who asked longest ago; not who is being answered."""
    door = Door(Connections(4, PATIENT))
    async with standing(door) as port, AsyncExitStack() as stack:

        async def come() -> SocketStream:
            return await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))

        busy, early, late = await come(), await come(), await come()
        await busy.send(ASK.replace(b"/", b"/later", 1))
        for known in (early, late, early):
            assert b" 200 " in await asked(known)
        stranger = await come()
        await door.until(4)
        newcomers = [await come()]
        await ended_after(stranger)
        assert b" 200 " in await asked(newcomers[0])
        newcomers.append(await come())
        await ended_after(late)
        assert b" 200 " in await asked(newcomers[1])
        newcomers.append(await come())
        await ended_after(early)
        assert door.in_flight == 1
        door.release()
        with anyio.fail_after(DEADLINE_S):
            assert b" 200 " in await busy.receive()


async def test_who_takes_long_to_send_makes_room_at_last() -> None:
    """Where everybody else is being answered: one who may send can also send slowly."""
    door = Door(Connections(2, PATIENT))
    async with standing(door) as port, AsyncExitStack() as stack:

        async def come() -> SocketStream:
            return await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))

        busy, slow = await come(), await come()
        await busy.send(ASK.replace(b"/", b"/later", 1))
        body = b"POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        await slow.send(body)
        await door.answering(2)
        newcomer = await come()
        await ended_after(slow)
        assert b" 200 " in await asked(newcomer)
        door.release()
        with anyio.fail_after(DEADLINE_S):
            assert b" 200 " in await busy.receive()


async def test_a_body_whose_sender_is_gone_is_no_error_of_ours() -> None:
    """In whichever moment he goes: to make room, here, for the next one."""
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


async def test_where_all_are_being_answered_a_newcomer_is_turned_away() -> None:
    """Whoever is being answered is not given up for somebody who may want nothing."""
    door = Door(Connections(2, PATIENT))
    async with standing(door) as port, AsyncExitStack() as stack:
        for _ in range(2):
            busy = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            await busy.send(ASK.replace(b"/", b"/later", 1))
        await door.answering(2)
        newcomer = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        await ended_after(newcomer)
        assert door.in_flight == 2
        door.release()


async def test_who_asks_ahead_of_the_answers_keeps_nobody_else_waiting() -> None:
    """They wait in one line; whoever takes an answer before asking again does not stand in it."""
    door = Door(Connections(timeouts=PATIENT))
    async with standing(door) as port, anyio.create_task_group() as crowd:
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
