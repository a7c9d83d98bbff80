"""An honest client who is served meanwhile, and what it costs the daemon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from time import monotonic

import anyio
import orjson
from aiohttp import ClientSession, TCPConnector

from tests.support.command_line import CommandLine
from tests.support.daemons import BEARER, EVENTS_PATH, DaemonProcess, fast_relay
from tests.support.relays import event

PAUSE_S = 0.01

ANSWER_S = 10.0


@dataclass
class Experience:
    """How somebody honest was served.

    Attributes:
        waits_s: For each answer.
        statuses: Of every answer.
    """

    waits_s: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def wait_s(self, share: float) -> float:
        """Return how long that share of the answers took at most."""
        return sorted(self.waits_s)[int(len(self.waits_s) * share)]

    def __str__(self) -> str:
        middle_ms, late_ms = self.wait_s(0.5) * 1000, self.wait_s(0.99) * 1000
        return f"{len(self.waits_s)} answers, p50 {middle_ms:.0f} ms, p99 {late_ms:.0f} ms"


@asynccontextmanager
async def bystander(
    door: str, *, tls: SSLContext | None = None, path: str = EVENTS_PATH
) -> AsyncIterator[Experience]:
    """Send events while the block runs, over an old connection and a new one in turn.

    Args:
        door: URL of the door.
        tls: How its certificate is checked, if it has one.
        path: Where to; anything but the hook is read.
    """
    experience = Experience()
    secure = tls if tls is not None else True
    async with (
        ClientSession(connector=TCPConnector(ssl=secure)) as regular,
        ClientSession(connector=TCPConnector(ssl=secure, force_close=True)) as newcomer,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_send, f"{door}{path}", (regular, newcomer), experience)
        yield experience
        group.cancel_scope.cancel()


async def _send(
    url: str, sessions: tuple[ClientSession, ClientSession], experience: Experience
) -> None:
    number = 0
    while True:
        number += 1
        is_hook = url.endswith(EVENTS_PATH)
        method, body = ("POST", orjson.dumps(event(number))) if is_hook else ("GET", None)
        began_s = monotonic()
        with anyio.fail_after(ANSWER_S):
            session = sessions[number % 2]
            async with session.request(method, url, data=body, headers=BEARER) as answer:
                await answer.read()
        experience.waits_s.append(monotonic() - began_s)
        experience.statuses.append(answer.status)
        await anyio.sleep(PAUSE_S)


def quiet(folder: Path, **changes: str) -> CommandLine:
    """Return a relay that does not try to deliver all the time."""
    calm = {"DELIVERY__BACKOFF_BASE_S": "30", "DELIVERY__BACKOFF_CAP_S": "30"}
    return fast_relay(folder, "http://127.0.0.1:9", **calm, **changes)


def complaints(daemon: DaemonProcess) -> list[object]:
    """Return what is logged as an error, or said beside the log."""
    kinds = ("request.failed", "connection.failed", "relay.crashed")
    lines = [line for kind in kinds for line in daemon.logged(kind) if line["level"] == "error"]
    return [*lines, *daemon.errors.decode().splitlines()]


def most_resident_bytes(daemon: DaemonProcess) -> int:
    """Return the most memory that the process has had.

    Source: proc(5), `VmHWM`.
    """
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
