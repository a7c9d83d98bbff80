"""A disk that has no room for a while, or for good, whatever it calls that: 503, never an end."""

import resource
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from aiohttp import ClientError

from relay.outbox.store import DATABASE_NAME
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.crash.crash_run import EndlessTraffic
from tests.support.command_line import API_KEY
from tests.support.daemons import BOOT_S, POLL_S, Doors, fast_relay, open_doors, running_daemon
from tests.support.disks import break_off, mounted_again, small_ext4

pytestmark = pytest.mark.slow

NO_ROOM = ["strace", "-D", "-f", "-q", "-e", "trace=pwrite64"]
OFTEN = "inject=pwrite64:error=ENOSPC:when=150+97"
"""Every 97th write fails, of each thread: in a commit, a claim, the log written back."""

EVENTS = 120
BULK_EVENTS = 500
HEALED_S = 3.0
"""Free space is looked at twice a second."""


async def test_writes_that_find_no_room_now_and_then_cost_a_503_each(tmp_path: Path) -> None:
    """Nothing of a refused body is kept, nothing answered is lost, and the daemon lives on."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        relay = fast_relay(tmp_path, url)
        async with (
            open_doors(relay) as doors,
            running_daemon(relay, under=[*NO_ROOM, "-e", OFTEN]) as daemon,
        ):
            await daemon.until("relay.ready")
            traffic = EndlessTraffic(5)
            refused = 0
            for _ in range(EVENTS):
                _, body = traffic.one()
                while (status := (await doors.post(body))[0]) != 200:
                    assert status == 503
                    refused += 1
            counts = await doors.drained()
            daemon.terminate()
            assert await daemon.ended() == 0
    held = amplitude.ledger.account(API_KEY).insert_ids
    assert refused
    assert counts.accepted == len(held) == len(set(held)) == EVENTS


async def test_a_limit_that_the_disk_does_not_know_of_is_no_broken_disk(tmp_path: Path) -> None:
    """A quota or a limit says something else than a full disk, and heals in the same way."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        relay = fast_relay(tmp_path, url)
        async with open_doors(relay) as doors, running_daemon(relay) as daemon:
            await daemon.until("relay.ready")
            traffic = EndlessTraffic(6)
            assert await _send(doors, traffic)
            pid, limit = daemon.process.pid, resource.RLIMIT_FSIZE
            log = relay.folder / f"{DATABASE_NAME}-wal"
            former = resource.prlimit(pid, limit, (log.stat().st_size, resource.RLIM_INFINITY))
            with anyio.fail_after(BOOT_S):
                while await _send(doors, traffic):
                    pass
            assert (await doors.readiness())[0] == 503
            assert daemon.process.returncode is None
            resource.prlimit(pid, limit, former)
            with anyio.fail_after(HEALED_S):
                while not await _send(doors, traffic):
                    await anyio.sleep(POLL_S)
            assert (await doors.readiness())[0] == 200
            counts = await doors.drained()
            daemon.terminate()
            assert await daemon.ended() == 0
    held = amplitude.ledger.account(API_KEY).insert_ids
    assert counts.accepted == len(held) == len(set(held))


async def test_a_disk_that_turns_read_only_is_named_until_it_is_well(tmp_path: Path) -> None:
    """The daemon ends, each start says why it cannot, and the first that can goes on."""
    amplitude, traffic = AmplitudeStandIn([API_KEY]), EndlessTraffic(7)
    async with running(amplitude.app()) as url:
        relay = fast_relay(tmp_path / "disk", url)
        async with open_doors(relay) as doors:
            with small_ext4(tmp_path / "disk") as disk:
                async with running_daemon(relay) as daemon:
                    await daemon.until("relay.ready")
                    assert await _send(doors, traffic)
                    await doors.drained()
                    break_off(disk)
                    with suppress(ClientError):
                        assert not await _send(doors, traffic)
                    assert await daemon.ended() == 1
                async with running_daemon(relay) as daemon:
                    assert await daemon.ended() == 1
                    assert b"Read-only file system" in daemon.errors
            with mounted_again(tmp_path / "disk"):
                async with running_daemon(relay) as daemon:
                    await daemon.until("relay.ready")
                    assert await _send(doors, traffic)
                    counts = await doors.drained()
                    daemon.terminate()
                    assert await daemon.ended() == 0
    held = amplitude.ledger.account(API_KEY).insert_ids
    assert counts.accepted == len(held) == len(set(held)) == 2 * BULK_EVENTS


async def _send(doors: Doors, traffic: EndlessTraffic) -> bool:
    """Send some events in one body; tell whether they were taken."""
    bodies = [traffic.one()[1] for _ in range(BULK_EVENTS)]
    status, _ = await doors.post(b"[%b]" % b",".join(bodies))
    assert status in {200, 503}
    return status == 200
