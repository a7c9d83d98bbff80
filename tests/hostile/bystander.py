"""An honest client that runs beside an attack, and what the attack costs the daemon."""

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
    """How the honest client was served.

    Attributes:
        waits_s: Response time of each request.
        statuses: Status of each response.
    """

    waits_s: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def wait_s(self, share: float) -> float:
        """Return the response time that this share of the requests stayed within."""
        return sorted(self.waits_s)[int(len(self.waits_s) * share)]

    def __str__(self) -> str:
        middle_ms, late_ms = self.wait_s(0.5) * 1000, self.wait_s(0.99) * 1000
        return f"{len(self.waits_s)} answers, p50 {middle_ms:.0f} ms, p99 {late_ms:.0f} ms"


@asynccontextmanager
async def bystander(
    door: str, *, tls: SSLContext | None = None, path: str = EVENTS_PATH
) -> AsyncIterator[Experience]:
    """Send events while the block runs, over a kept-alive and a new connection in turn.

    Args:
        door: URL of the door.
        tls: How its certificate is checked, if it has one.
        path: Where to post; any other path than the events webhook is read with GET.
    """
    experience = Experience()
    secure = tls if tls is not None else True
    async with (
        ClientSession(connector=TCPConnector(ssl=secure)) as regular,
        ClientSession(connector=TCPConnector(ssl=secure, force_close=True)) as new_connection,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_send, f"{door}{path}", (regular, new_connection), experience)
        yield experience
        group.cancel_scope.cancel()


async def _send(
    url: str, sessions: tuple[ClientSession, ClientSession], experience: Experience
) -> None:
    number = 0
    while True:
        number += 1
        is_webhook = url.endswith(EVENTS_PATH)
        method, body = ("POST", orjson.dumps(event(number))) if is_webhook else ("GET", None)
        began_s = monotonic()
        with anyio.fail_after(ANSWER_S):
            session = sessions[number % 2]
            async with session.request(method, url, data=body, headers=BEARER) as answer:
                await answer.read()
        experience.waits_s.append(monotonic() - began_s)
        experience.statuses.append(answer.status)
        await anyio.sleep(PAUSE_S)


def quiet(folder: Path, **changes: str) -> CommandLine:
    """Return a relay that hardly ever tries to deliver."""
    calm = {"DELIVERY__BACKOFF_BASE_S": "30", "DELIVERY__BACKOFF_CAP_S": "30"}
    return fast_relay(folder, "http://127.0.0.1:9", **calm, **changes)


def complaints(daemon: DaemonProcess) -> list[object]:
    """Return what was logged as an error or written to standard error."""
    kinds = ("request.failed", "connection.failed", "relay.crashed")
    lines = [line for kind in kinds for line in daemon.logged(kind) if line["level"] == "error"]
    return [*lines, *daemon.errors.decode().splitlines()]


def most_resident_bytes(daemon: DaemonProcess) -> int:
    """Return the process's peak resident memory.

    Source: proc(5), `VmHWM`.
    """
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
