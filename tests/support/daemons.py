"""The daemon in its own process: its log is read line by line, its doors are called over HTTP."""

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TypeAlias

import anyio
import orjson
from aiohttp import ClientResponse, ClientSession
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.support.command_line import WEBHOOK_TOKEN, CommandLine

APP = "shop"
EVENTS_PATH = f"/v1/apps/{APP}/events"
BEARER = {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}

BOOT_S = 30.0
"""Limit for a start on a busy machine."""

POLL_S = 0.02
LONGEST_LINE = 1 << 20

LogLine: TypeAlias = dict[str, object]


class DaemonProcess:
    """One process of the daemon.

    Attributes:
        process: The process.
        began_s: Monotonic seconds when it was started.
        errors: What it wrote to standard error.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.began_s = monotonic()
        self.errors = bytearray()
        self._lines: list[LogLine] = []
        self._is_silent = False
        self._changed = anyio.Event()

    def logged(self, event: str) -> list[LogLine]:
        """Return the log lines of one event so far."""
        return [line for line in self._lines if line["event"] == event]

    async def until(self, event: str, count: int = 1) -> LogLine:
        """Return the `count`-th log line of an event, once written."""
        with anyio.fail_after(BOOT_S):
            while len(lines := self.logged(event)) < count:
                assert not self._is_silent, f"no {event}: {self.errors.decode()}"
                await self._changed.wait()
        return lines[count - 1]

    async def reaches(self, event: str) -> bool:
        """Return whether a log line of an event is written before the process ends."""
        with anyio.fail_after(BOOT_S):
            while not self.logged(event):
                if self._is_silent:
                    return False
                await self._changed.wait()
        return True

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.process.returncode is None:
            self.process.kill()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    async def ended(self, within_s: float = BOOT_S) -> int:
        """Return its exit code once it has ended (a signal's number below zero)."""
        with anyio.fail_after(within_s):
            return await self.process.wait()

    async def follow_log(self, stdout: ByteReceiveStream) -> None:
        """Read the log to its end."""
        log = BufferedByteReceiveStream(stdout)
        try:
            while True:
                line = await log.receive_until(b"\n", LONGEST_LINE)
                self._lines.append(orjson.loads(line))
                self._change()
        except (anyio.EndOfStream, anyio.IncompleteRead):
            self._is_silent = True
            self._change()

    async def follow_errors(self, stderr: ByteReceiveStream) -> None:
        """Read standard error to its end."""
        async for chunk in stderr:
            self.errors += chunk

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


@asynccontextmanager
async def running_daemon(
    relay: CommandLine, *, under: Sequence[str] = (), words: Sequence[str] = ()
) -> AsyncIterator[DaemonProcess]:
    """Start the daemon; kill what is left of it when the block ends.

    Args:
        relay: Its configuration.
        under: A command that runs it, a tracer for example.
        words: Further command-line arguments.
    """
    failure: Exception | None = None
    process = await anyio.open_process(
        [*under, sys.executable, "-m", "relay", "serve", *words],
        env=relay.env,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    daemon = DaemonProcess(process)
    async with process, anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.follow_log, process.stdout, name="log")
        tasks.start_soon(daemon.follow_errors, process.stderr, name="errors")
        try:
            yield daemon
        except Exception as error:  # noqa: BLE001  # raised again, outside of the group
            failure = error
        finally:
            daemon.kill()
    if failure is not None:
        raise failure


@dataclass(frozen=True)
class AppCounts:
    """An app's counts as `/api/v1/status` gives them."""

    accepted: int
    pending: int
    in_flight: int
    delivered: int
    dead: int
    discarded: int
    duplicate: int
    filtered: int
    quarantined: int


class Doors:
    """Clients of both doors, across restarts of the daemon."""

    def __init__(self, relay: CommandLine, http: ClientSession) -> None:
        self._relay = relay
        self._http = http

    async def post(self, body: bytes) -> tuple[int, dict[str, int]]:
        """Post one body to the events webhook; return the response's status and counts."""
        async with self.sending(body) as answer:
            return answer.status, await answer.json()

    @asynccontextmanager
    async def sending(self, body: bytes) -> AsyncIterator[ClientResponse]:
        """Post one body to the events webhook; yield the response once its head arrives."""
        url = f"{self._relay.public}{EVENTS_PATH}"
        async with self._http.post(url, data=body, headers=BEARER) as answer:
            yield answer

    async def readiness(self, *, admin: bool = False) -> tuple[int, dict[str, str]]:
        """Return the status and checks of `/readyz`."""
        door = self._relay.admin if admin else self._relay.public
        async with self._http.get(f"{door}/readyz") as answer:
            return answer.status, (await answer.json())["checks"]

    async def counts(self) -> AppCounts:
        """Return the app's counts."""
        async with self._http.get(f"{self._relay.admin}/api/v1/status") as answer:
            app = (await answer.json())["apps"][APP]
        return AppCounts(**{name: app[name] for name in AppCounts.__dataclass_fields__})

    async def dead_letters(self) -> list[str]:
        """Return the insert ids of all dead letters."""
        ids: list[str] = []
        query = {"limit": "1000"}
        while True:
            url = f"{self._relay.admin}/api/v1/dead-letters"
            async with self._http.get(url, params=query) as answer:
                page = await answer.json()
            ids += [item["insert_id"] for item in page["items"]]
            if page["next"] is None:
                return ids
            query["after"] = str(page["next"])

    async def drained(self, within_s: float = 60.0) -> AppCounts:
        """Return the counts once nothing is pending."""
        with anyio.fail_after(within_s):
            while (counts := await self.counts()).pending:
                await anyio.sleep(POLL_S)
        return counts


@asynccontextmanager
async def open_doors(relay: CommandLine) -> AsyncIterator[Doors]:
    """Provide clients of both doors while the block runs."""
    async with ClientSession() as http:
        yield Doors(relay, http)


def fast_relay(folder: Path, ingest: object, **changes: str) -> CommandLine:
    """Return a relay with small uploads and short waits."""
    quick = {
        "DELIVERY__LINGER_S": "0.05",
        "DELIVERY__MAX_BATCH_EVENTS": "20",
        "DELIVERY__REQUEST_TIMEOUT_S": "5",
        "DELIVERY__BACKOFF_BASE_S": "0.05",
        "DELIVERY__BACKOFF_CAP_S": "0.3",
        "DELIVERY__THROTTLE_HOLD_S": "0.3",
        f"APPS__{APP.upper()}__AMPLITUDE_INGEST_URL": str(ingest),
        **changes,
    }
    return CommandLine(folder, **{f"RELAY_{name}": text for name, text in quick.items()})
