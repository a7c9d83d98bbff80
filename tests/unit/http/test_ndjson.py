"""NDJSON responses: complete, or visibly cut."""

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
    """One line of a response."""

    external_id: str
    at: int


Blocks = Callable[[], AsyncIterator[list[Row]]]


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[str, int]]:
    """Serve one handler on loopback."""
    runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]  # has what is used
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield host, port
    finally:
        await runner.cleanup()


class Stream:
    """Rows of a test; records when its reader is done."""

    def __init__(
        self, blocks: Blocks, *, block_timeout_s: float = 10, timeout_s: float = 10
    ) -> None:
        self._blocks = blocks
        self._timeouts = {"block_timeout_s": block_timeout_s, "timeout_s": timeout_s}
        self.closed = anyio.Event()
        self.ends: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[list[Row]]]:
        """Yield the blocks and record the end."""
        try:
            yield self._blocks()
        finally:
            self.closed.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Send the rows, and record how that ends."""
        try:
            response = await send_lines(request, NdjsonStream(self.open()), Line, **self._timeouts)
        except Exception as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("well")
        return response


async def read_on(reader: ByteReceiveStream) -> None:
    """Read until the connection breaks, which raises."""
    while True:
        await reader.receive()


async def test_every_row_is_an_object_on_a_line_of_its_own() -> None:
    """Whatever an id contains, lines end where objects do."""

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
    """The end is sent at once."""

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
    """A body that merely stops would pass for the whole list."""

    async def blocks() -> AsyncIterator[list[Row]]:
        if before:
            yield [(f"user-{number}", number) for number in range(before)]
        raise StoreFailed("the disk is gone")

    async with serving(Stream(blocks).answer) as (host, port), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.get(f"http://{host}:{port}") as answer:
                await answer.read()


async def test_a_reader_that_stops_reading_is_aborted() -> None:
    """A stream holds a connection to the database."""

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


async def test_a_reader_that_leaves_ends_the_stream() -> None:
    """The remaining rows are not read in vain."""

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


async def test_a_steady_reader_is_aborted_at_the_deadline() -> None:
    """An endless response would keep old pages on disk for ever."""

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


async def test_a_client_that_left_before_the_first_line_is_not_an_error() -> None:
    """A client that gives up must not appear in the error log."""

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


async def test_a_list_that_cannot_be_opened_is_rejected_normally() -> None:
    """Nothing is sent yet, so the door can still answer 503."""

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
