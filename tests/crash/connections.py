"""A plain HTTP client that can stop in the middle of a request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.support.daemons import BEARER, EVENTS_PATH

ANSWER_S = 20.0
HEAD_BYTES = 16_384


class Connection:
    """One HTTP connection to a door."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._answers = BufferedByteReceiveStream(stream)

    async def begin(self, body: bytes, *, sent: int, path: str = EVENTS_PATH) -> None:
        """Send the head of a POST and the first `sent` bytes of its body."""
        head = [
            f"POST {path} HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {text}" for name, text in BEARER.items()),
        ]
        await self.send("\r\n".join([*head, "", ""]).encode() + body[:sent])

    async def send(self, data: bytes) -> None:
        """Send more bytes of the body."""
        await self._stream.send(data)

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and body of the next response."""
        with anyio.fail_after(ANSWER_S):
            head = await self._answers.receive_until(b"\r\n\r\n", HEAD_BYTES)
            status, *fields = head.decode().split("\r\n")
            length = next(
                int(text)
                for name, _, text in (field.partition(":") for field in fields)
                if name.lower() == "content-length"
            )
            return int(status.split()[1]), await self._answers.receive_exactly(length)

    async def closed(self) -> None:
        """Return once the other side has closed without sending anything more."""
        with anyio.fail_after(ANSWER_S):
            try:
                said = await self._answers.receive()
            except anyio.EndOfStream:
                return
        raise AssertionError(f"instead of closing it said {said!r}")


@asynccontextmanager
async def connected(door: str) -> AsyncIterator[Connection]:
    """Yield a connection that has already served one request."""
    address = urlsplit(door)
    assert address.hostname is not None
    assert address.port is not None
    async with await anyio.connect_tcp(address.hostname, address.port) as stream:
        connection = Connection(stream)
        await connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await connection.answer())[0] == 200
        yield connection
