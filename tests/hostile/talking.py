"""Raw bytes to a door and back, without an HTTP client's restraint."""

import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

QUIET_S = 0.3
"""After so long without a word an open connection has nothing more to say."""


@dataclass(frozen=True)
class Received:
    """Everything a door sent on one connection.

    Attributes:
        text: The bytes as text.
        is_closed: Whether the door then closed the connection.
    """

    text: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """Status of every response, in order."""
        return [int(status) for status in STATUS.findall(self.text)]


def port_of(door: str) -> int:
    """Return the port in the URL of a door."""
    port = urlsplit(door).port
    assert port is not None
    return port


async def say(door: str, *parts: bytes, quiet_s: float = QUIET_S) -> Received:
    """Send each part once the last one is read by the door; return the whole response."""
    text = b""
    async with await anyio.connect_tcp("127.0.0.1", port_of(door)) as stream:
        for part in parts:
            with suppress(anyio.BrokenResourceError):
                await stream.send(part)
            await anyio.sleep(0.02 if len(parts) > 1 else 0)
        while True:
            with anyio.move_on_after(quiet_s) as waiting:
                try:
                    text += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return Received(text, is_closed=True)
            if waiting.cancelled_caught:
                return Received(text, is_closed=False)
