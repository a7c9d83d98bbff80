"""NDJSON answers: whole, or visibly cut."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import anyio
import anyio.lowlevel
import orjson
import pytest
from aiohttp import web
from anyio.abc import ByteReceiveStream
from pydantic import BaseModel

from relay.database.database import Row
from relay.errors import StoreFailed, StoreFull
from relay.http.admin.ndjson import NdjsonStream, send_lines


class Line(BaseModel):
    """A line of the tests."""

    external_id: str
    at: int


Blocks = Callable[[], AsyncIterator[list[Row]]]


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[str, int]]:
    """Answer requests on a port of this machine."""
    runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]  # has what is used
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield host, port
    finally:
        await runner.cleanup()


class Stream:
    """Rows of a test, and whether whoever read them is done."""

    def __init__(
        self, blocks: Blocks, *, block_timeout_s: float = 10, timeout_s: float = 10
    ) -> None:
        self._blocks = blocks
        self._timeouts = {"block_timeout_s": block_timeout_s, "timeout_s": timeout_s}
        self.closed = anyio.Event()
        self.ends: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[list[Row]]]:
        """Yield the blocks and note the end."""
        try:
            yield self._blocks()
        finally:
            self.closed.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Send them, and note how that ends."""
        try:
            response = await send_lines(request, NdjsonStream(self.open()), Line, **self._timeouts)
        except Exception as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("well")
        return response


async def read_on(reader: ByteReceiveStream) -> None:
    """Read until nothing comes any more, which raises."""
    while True:
        await reader.receive()


async def test_every_row_is_an_object_on_a_line_of_its_own() -> None:
    """Whatever an id holds, a line ends where the object does."""

    async def blocks() -> AsyncIterator[list[Row]]:
        yield [("a\nb", 1), ("ü", 2)]
        yield [('"', 3)]

    async with (
        serving(Stream(blocks).answer) as (host, port),
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}") as answer,
    ):
        lines = (await answer.read()).splitlines()
        assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert [orjson.loads(line) for line in lines] == [
        {"external_id": "a\nb", "at": 1},
        {"external_id": "ü", "at": 2},
        {"external_id": '"', "at": 3},
    ]


async def test_without_rows_the_body_is_empty_and_whole() -> None:
    """Nobody waits for what does not come."""

    async def blocks() -> AsyncIterator[list[Row]]:
        no_rows: Sequence[list[Row]] = ()
        for block in no_rows:
            yield block

    async with (
        serving(Stream(blocks).answer) as (host, port),
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}") as answer,
    ):
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize("before", [0, 1, 1000])
async def test_an_error_on_the_way_cuts_the_connection(before: int) -> None:
    """A body that only stops would pass for the whole list."""

    async def blocks() -> AsyncIterator[list[Row]]:
        if before:
            yield [(f"user-{number}", number) for number in range(before)]
        raise StoreFailed("the disk is gone")

    async with serving(Stream(blocks).answer) as (host, port), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.get(f"http://{host}:{port}") as answer:
                await answer.read()


async def test_a_reader_who_stops_reading_is_let_go() -> None:
    """Whoever holds a stream holds a connection of the database."""

    async def blocks() -> AsyncIterator[list[Row]]:
        while True:
            yield [("x" * 100_000, 0)]

    stream = Stream(blocks, block_timeout_s=0.05)
    async with (
        serving(stream.answer) as (host, port),
        await anyio.connect_tcp(host, port) as reader,
    ):
        await reader.send(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
        with anyio.fail_after(10):
            await stream.closed.wait()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await read_on(reader)


async def test_a_reader_who_leaves_is_noticed() -> None:
    """The rest is not read for nobody."""

    async def blocks() -> AsyncIterator[list[Row]]:
        while True:
            yield [("x" * 100_000, 0)]

    stream = Stream(blocks)
    async with serving(stream.answer) as (host, port):
        async with await anyio.connect_tcp(host, port) as reader:
            await reader.send(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
            await reader.receive()
        with anyio.fail_after(10):
            await stream.closed.wait()


async def test_a_steady_reader_is_let_go_in_time_too() -> None:
    """An answer without end would keep the disk's old pages without end."""

    async def blocks() -> AsyncIterator[list[Row]]:
        while True:
            yield [("x" * 1_000, 0)]
            await anyio.lowlevel.checkpoint()

    stream = Stream(blocks, timeout_s=0.2)
    async with (
        serving(stream.answer) as (host, port),
        await anyio.connect_tcp(host, port) as reader,
    ):
        await reader.send(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
        with anyio.fail_after(10), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await read_on(reader)
    assert stream.ends == ["well"]


async def test_a_caller_who_left_before_the_first_line_is_no_defect() -> None:
    """Whoever gives up waiting is not to be looked for in the log of errors."""

    async def blocks() -> AsyncIterator[list[Row]]:
        yield [("anna", 0)]

    stream = Stream(blocks)
    asked = anyio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.set()
        while request.transport is not None:
            await anyio.lowlevel.checkpoint()
        return await stream.answer(request)

    with anyio.fail_after(10):
        async with serving(answer) as (host, port):
            async with await anyio.connect_tcp(host, port) as reader:
                await reader.send(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
                await asked.wait()
            await stream.closed.wait()
    assert stream.ends == ["well"]


async def test_a_list_that_cannot_be_opened_is_refused_like_any_request() -> None:
    """Nothing is sent yet, so that the door can still answer 503."""

    class Busy(AbstractAsyncContextManager[AsyncIterator[list[Row]]]):
        async def __aenter__(self) -> AsyncIterator[list[Row]]:
            raise StoreFull("other lists are being read")

        async def __aexit__(self, *_: object) -> None: ...

    refusals: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await send_lines(request, NdjsonStream(Busy()), Line)
        except StoreFull as error:
            refusals.append(str(error))
            raise web.HTTPServiceUnavailable from error

    async with (
        serving(answer) as (host, port),
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}") as answered,
    ):
        assert answered.status == 503
    assert refusals == ["other lists are being read"]
