"""Bytes to a door and back, without an HTTP client's good manners."""

import re
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

QUIET_S = 0.3
"""After so long without a word an open connection has nothing more to say."""


@dataclass(frozen=True)
class Said:
    """What a door said on one connection.

    Attributes:
        text: All of it.
        is_closed: Whether the door closed the connection then.
    """

    text: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """Of every answer, in order."""
        return [int(status) for status in STATUS.findall(self.text)]


def port_of(door: str) -> int:
    """Return the port in the URL of a door."""
    port = urlsplit(door).port
    assert port is not None
    return port


async def say(door: str, *parts: bytes, quiet_s: float = QUIET_S) -> Said:
    """Send the parts, each once the one before is taken in; return what is said to them all."""
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
                    return Said(text, is_closed=True)
            if waiting.cancelled_caught:
                return Said(text, is_closed=False)
