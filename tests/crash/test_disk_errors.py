"""Disk errors under the daemon: no 200 without the disk, one clear exit, a clean next start."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

import anyio
import orjson
import pytest
from aiohttp import ClientError, ClientSession

from relay.outbox.store import DATABASE_NAME
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from relay.segments.store import DATABASE_NAME as SEGMENTS_NAME
from tests.crash.crash_run import EndlessTraffic
from tests.support.command_line import API_KEY, CommandLine
from tests.support.daemons import (
    APP,
    BEARER,
    DaemonProcess,
    Doors,
    fast_relay,
    open_doors,
    running_daemon,
)
from tests.support.options import option
from tests.support.relays import COHORT, cohort_message
from tests.support.segment_tables import SegmentFile

pytestmark = pytest.mark.slow

BEFORE = 12
"""Events that an earlier process accepted and left in the log."""

MOST = 400
BULKS, BULK_EVENTS = 12, 1_000
"""Enough to trigger a checkpoint."""


@dataclass(frozen=True)
class Fault:
    """A failing system call.

    Attributes:
        call: Its name.
        when: The first, or only, call that fails, as `strace` counts per thread.
        error: The error it returns.
        file: The only file affected; None for all.
        is_first: Whether it hits the very first start.
    """

    call: str
    when: str
    error: str = "EIO"
    file: str = ""
    is_first: bool = False

    def __str__(self) -> str:
        place = f"-of-{self.file}" if self.file else ""
        return f"{self.call}{place}-{self.when}{'-first-start' * self.is_first}"

    def tracer(self, folder: Path) -> list[str]:
        """Return the `strace` command that injects it."""
        path = ["-P", str(folder / self.file)] if self.file else []
        inject = f"inject={self.call}:error={self.error}:when={self.when}"
        return ["strace", "-D", "-f", "-q", *path, "-e", f"trace={self.call}", "-e", inject]


STARTS = [
    Fault("fdatasync", "1", is_first=True),
    Fault("fsync", "1", is_first=True),
    Fault("pwrite64", "40", is_first=True),
    Fault("fsync", "1"),
    Fault("fsync", "2"),
    Fault("pread64", "1+", file=DATABASE_NAME),
    Fault("pwrite64", "1", file=f"{DATABASE_NAME}-wal"),
    Fault("fdatasync", "1", file=f"{SEGMENTS_NAME}-wal"),
]
"""Faults during a start: creation, migration, the folder and its parent, recovery."""

RUNS = [
    Fault("pwrite64", "60", file=f"{DATABASE_NAME}-wal"),
    Fault("pwrite64", "60", file=f"{DATABASE_NAME}-wal", error="EROFS"),
    Fault("pwrite64", "1", file=DATABASE_NAME),
    Fault("fdatasync", "1", file=DATABASE_NAME),
]
"""Faults while events come in: during commits and checkpoints."""


def any_fault(seed: int) -> Fault:
    """Return a random fault during a start or shortly after."""
    rng = Random(seed)
    call = rng.choice(("pwrite64", "pwrite64", "fdatasync", "fsync", "pread64", "ftruncate"))
    stores = (DATABASE_NAME, SEGMENTS_NAME, f"{DATABASE_NAME}-wal", f"{SEGMENTS_NAME}-wal")
    return Fault(
        call,
        when=f"{round(10 ** rng.uniform(0, 2.6))}{rng.choice(('', '+', '+7'))}",
        error=rng.choice(("EIO", "ENOSPC", "EDQUOT", "EROFS")),
        file=rng.choice(stores) if call == "pread64" else "",  # also how Python reads its own files
        is_first=rng.random() < 1 / 3,
    )


class Scene:
    """A relay, OneSignal, and Amplitude's stand-in.

    Attributes:
        relay: The relay.
        doors: Its doors.
        acknowledged: Ids of events answered 200.
        users: Users in messages of the cohorts webhook answered 200.
    """

    def __init__(self, relay: CommandLine, doors: Doors, http: ClientSession) -> None:
        self.relay = relay
        self.doors = doors
        self.acknowledged: set[str] = set()
        self.users: set[str] = set()
        self._http = http
        self._campaign = EndlessTraffic(4)

    async def send(self, events: int) -> bool:
        """Post this many events in one body; return whether they were accepted."""
        some = dict(self._campaign.one() for _ in range(events))
        body = b"[%b]" % b",".join(some.values())
        status, _ = await self.doors.post(body)
        if status == 200:
            self.acknowledged |= some.keys()
        return status == 200

    async def push(self) -> bool:
        """Post a message to the cohorts webhook; return whether it was accepted."""
        name, _ = self._campaign.one()
        url = f"{self.relay.public}/v1/apps/{APP}/cohorts"
        message = orjson.dumps(cohort_message(UUID(name).int, name))
        async with self._http.post(url, data=message, headers=BEARER) as answer:
            if answer.status == 200:
                self.users.add(name)
            return answer.status == 200


@asynccontextmanager
async def _scene(folder: Path, amplitude: AmplitudeStandIn) -> AsyncIterator[Scene]:
    async with running(amplitude.app()) as url:
        relay = fast_relay(
            folder, url, APPS__SHOP__MEMBERSHIP="all", DELIVERY__MAX_BATCH_EVENTS="500"
        )
        async with open_doors(relay) as doors, ClientSession() as http:
            yield Scene(relay, doors, http)


async def _live_before(scene: Scene) -> None:
    async with running_daemon(scene.relay) as daemon:
        await daemon.until("relay.ready")
        for _ in range(BEFORE):
            assert await scene.send(1)
            assert await scene.push()
        daemon.kill()
        await daemon.ended()


async def _expect_bad_end(daemon: DaemonProcess) -> None:
    """Assert that the daemon exits alone, with one line that says why."""
    assert await daemon.ended() == 1
    said = daemon.errors.decode().splitlines()
    assert [line for line in said if line.startswith("relay: ")], said
    assert not any("Traceback" in line for line in said)


async def _expect_all_there(scene: Scene, amplitude: AmplitudeStandIn) -> None:
    """Assert that the next start has everything that was answered."""
    async with running_daemon(scene.relay) as daemon:
        await daemon.until("relay.ready")
        counts = await scene.doors.drained()
        assert await scene.send(1)
        assert await scene.push()
        assert scene.users <= set(SegmentFile(scene.relay.folder).members(COHORT))
        await scene.doors.drained()
        daemon.terminate()
        assert await daemon.ended() == 0
    held = amplitude.ledger.account(API_KEY).insert_ids
    assert scene.acknowledged <= set(held)
    assert len(held) == len(set(held))
    assert counts.accepted == counts.delivered + counts.dead
    assert not list(scene.relay.folder.glob("*.damaged-*"))


@pytest.mark.parametrize("fault", STARTS, ids=str)
async def test_a_start_that_meets_an_error_says_so_and_harms_nothing(
    tmp_path: Path, fault: Fault
) -> None:
    """It exits before accepting anything, and the next start succeeds."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with _scene(tmp_path, amplitude) as scene:
        if not fault.is_first:
            await _live_before(scene)
        async with running_daemon(scene.relay, under=fault.tracer(scene.relay.folder)) as daemon:
            await _expect_bad_end(daemon)
            assert daemon.logged("relay.ready") == []
        await _expect_all_there(scene, amplitude)


@pytest.mark.parametrize("fault", RUNS, ids=str)
async def test_an_error_while_events_come_in_ends_the_daemon(tmp_path: Path, fault: Fault) -> None:
    """What could not be written or synced is not answered 200."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with _scene(tmp_path, amplitude) as scene:
        await _live_before(scene)
        async with running_daemon(scene.relay, under=fault.tracer(scene.relay.folder)) as daemon:
            await daemon.until("relay.ready")
            size = BULK_EVENTS if fault.file == DATABASE_NAME else 1
            await _send_until_refused(scene, [size] * (BULKS if size > 1 else MOST))
            await _expect_bad_end(daemon)
        await _expect_all_there(scene, amplitude)


@pytest.mark.parametrize("seed", range(option("DISK_FAULTS", 3)))
async def test_whatever_call_fails_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    """The daemon continues or exits with a reason; the next start has all that was answered."""
    fault, amplitude = any_fault(seed), AmplitudeStandIn([API_KEY])
    async with _scene(tmp_path, amplitude) as scene:
        if not fault.is_first:
            await _live_before(scene)
        async with running_daemon(scene.relay, under=fault.tracer(scene.relay.folder)) as daemon:
            with suppress(AssertionError):  # it may end before
                await daemon.until("relay.ready")
                await _send_and_push(scene, 60)
            if (code := await _ended_soon(daemon)) is None:
                daemon.terminate()
                code = await daemon.ended()
            said = daemon.errors.decode()
            assert code == 0 or (code == 1 and "relay: " in said), (fault, said)
            assert "Traceback" not in said
        await _expect_all_there(scene, amplitude)


async def _ended_soon(daemon: DaemonProcess) -> int | None:
    with anyio.move_on_after(1):
        return await daemon.process.wait()
    return None


async def _send_and_push(scene: Scene, times: int) -> None:
    try:
        for _ in range(times):
            await scene.send(1)
            await scene.push()
    except ClientError:
        pass


async def test_a_failed_sync_of_the_segments_ends_the_daemon(tmp_path: Path) -> None:
    """The cohorts webhook follows the same rule as the events webhook."""
    fault = Fault("fdatasync", "12+", file=f"{SEGMENTS_NAME}-wal")
    amplitude = AmplitudeStandIn([API_KEY])
    async with _scene(tmp_path, amplitude) as scene:
        await _live_before(scene)
        before = len(scene.users)
        async with running_daemon(scene.relay, under=fault.tracer(scene.relay.folder)) as daemon:
            await daemon.until("relay.ready")
            try:
                while await scene.push():
                    pass
            except ClientError:
                pass
            await _expect_bad_end(daemon)
        assert len(scene.users) > before
        await _expect_all_there(scene, amplitude)


async def _send_until_refused(scene: Scene, sizes: Sequence[int]) -> None:
    try:
        for size in sizes:
            if not await scene.send(size):
                return
    except ClientError:
        pass
