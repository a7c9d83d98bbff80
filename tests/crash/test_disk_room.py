"""A disk without space, for a while or for good, whatever its error: 503, never an exit."""

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
"""Every 97th write of each thread fails: in a commit, a claim, a checkpoint."""

EVENTS = 120
BULK_EVENTS = 500
HEALED_S = 3.0
"""Free space is checked twice a second."""


async def test_each_write_without_space_costs_one_503(tmp_path: Path) -> None:
    """No rejected body is kept, no answered event is lost, and the daemon keeps running."""
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


async def test_a_size_limit_is_not_a_broken_disk(tmp_path: Path) -> None:
    """A quota or a size limit has another error than a full disk and recovers alike."""
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


async def test_a_read_only_disk_is_reported_until_it_recovers(tmp_path: Path) -> None:
    """The daemon exits, each start says why it cannot, and the first that can continues."""
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
    """Post some events in one body; return whether they were accepted."""
    bodies = [traffic.one()[1] for _ in range(BULK_EVENTS)]
    status, _ = await doors.post(b"[%b]" % b",".join(bodies))
    assert status in {200, 503}
    return status == 200
