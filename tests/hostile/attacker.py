"""Hostile peers in a process of their own: `python -m tests.hostile.attacker NAME PORT`.

It prints `running` once all of its peers are connected, and runs until it is killed.
"""

import gzip
import resource
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import cycle

import anyio
import anyio.abc
import anyio.lowlevel

from tests.support.command_line import WEBHOOK_TOKEN
from tests.support.daemons import EVENTS_PATH

RUNNING = b"running\n"

ABREAST = 200
"""Peers that connect at a time: the system drops what a listener cannot take in at once."""

DRIP_S = 0.5

ASK = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"


BODY_BYTES = 4 * 1024 * 1024
"""As long as one may be."""


def _post(token: str, length: int, fields: str = "") -> bytes:
    return (
        f"POST {EVENTS_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {length}\r\n{fields}\r\n"
    ).encode()


@cache
def _bombs() -> list[bytes]:
    """Return authenticated requests whose bodies are far larger, or deeper, than they look."""
    plain = (b"[" * BODY_BYTES, b"9" * BODY_BYTES)
    packed = gzip.compress(b" " * BODY_BYTES * 20)
    return [
        *(_post(WEBHOOK_TOKEN, len(body)) + body for body in plain),
        _post(WEBHOOK_TOKEN, len(packed), "Content-Encoding: gzip\r\n") + packed,
    ]


Peer = Callable[[anyio.abc.SocketStream], Awaitable[None]]


async def _idle(_: anyio.abc.SocketStream) -> None:
    """Connect and send nothing."""
    await anyio.sleep_forever()


async def _slow_head(stream: anyio.abc.SocketStream) -> None:
    """Send a request head that never ends."""
    await stream.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")
    while True:
        await anyio.sleep(DRIP_S)
        await stream.send(b"X-More: 1\r\n")


async def _slow_body(stream: anyio.abc.SocketStream) -> None:
    """Send an authenticated body one byte at a time."""
    await stream.send(_post(WEBHOOK_TOKEN, 100_000))
    while True:
        await anyio.sleep(DRIP_S)
        await stream.send(b" ")


async def _no_reading(stream: anyio.abc.SocketStream) -> None:
    """Pipeline requests without reading a response."""
    while True:
        await stream.send(ASK * 500)


async def _pipelining(stream: anyio.abc.SocketStream) -> None:
    """Pipeline hundreds of requests, then read the responses."""
    while True:
        await stream.send(ASK * 500)
        await stream.receive(1 << 20)


async def _guessing(stream: anyio.abc.SocketStream) -> None:
    """Try one token after another."""
    guess = 0
    while True:
        guess += 1
        await stream.send(_post(f"guess-{guess}", 2) + b"[]")
        await stream.receive()


async def _unwanted_bodies(stream: anyio.abc.SocketStream) -> None:
    """Send long bodies without a token."""
    await stream.send(_post("none", 100_000_000))
    while True:
        await stream.send(bytes(1 << 16))


async def _coming_and_going(stream: anyio.abc.SocketStream) -> None:
    """Disconnect in the middle of the request line."""
    await stream.send(b"GET /rea")


async def _garbage(stream: anyio.abc.SocketStream) -> None:
    """Speak another protocol."""
    await stream.send(bytes.fromhex("16030100c8010000c40303") + bytes(190))
    await stream.receive()


async def _bombing(stream: anyio.abc.SocketStream) -> None:
    """Send one authenticated bomb after another."""
    for bomb in cycle(_bombs()):
        await stream.send(bomb)
        await stream.receive()


@dataclass(frozen=True)
class Attack:
    """One kind of attack, and how many peers carry it out.

    Attributes:
        peer: Attacks over one connection.
        count: Peers at a time; each reconnects when its connection is closed.
    """

    peer: Peer
    count: int


ATTACKS: Mapping[str, Attack] = {
    "idle": Attack(_idle, 5200),
    "idle some": Attack(_idle, 3000),
    "idle few": Attack(_idle, 200),
    "slow heads": Attack(_slow_head, 1500),
    "slow bodies": Attack(_slow_body, 1000),
    "no reading": Attack(_no_reading, 300),
    "pipelining": Attack(_pipelining, 8),
    "guessing": Attack(_guessing, 100),
    "unwanted bodies": Attack(_unwanted_bodies, 8),
    "coming and going": Attack(_coming_and_going, 4),
    "garbage": Attack(_garbage, 4),
    "bombs": Attack(_bombing, 4),
}


class Crowd:
    """Peers of one kind."""

    def __init__(self, attack: Attack, port: int) -> None:
        self._attack = attack
        self._port = port
        self._connecting = anyio.Semaphore(ABREAST)
        self._begun = 0

    async def run(self) -> None:
        """Attack until cancelled."""
        async with anyio.create_task_group() as peers:
            for _ in range(self._attack.count):
                peers.start_soon(self._attend)

    async def _attend(self) -> None:
        is_first = True
        while True:
            try:
                async with self._connecting:
                    stream = await anyio.connect_tcp("127.0.0.1", self._port)
                async with stream:
                    if is_first:
                        self._begin()
                        is_first = False
                    await self._attack.peer(stream)
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                await anyio.lowlevel.checkpoint()

    def _begin(self) -> None:
        self._begun += 1
        if self._begun == self._attack.count:
            sys.stdout.buffer.write(RUNNING)
            sys.stdout.buffer.flush()


def main() -> None:
    """Run one attack."""
    _, name, port = sys.argv
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    anyio.run(Crowd(ATTACKS[name], int(port)).run, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
