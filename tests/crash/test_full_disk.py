"""A disk without a free byte: nothing is accepted, accepted events are still delivered."""

from pathlib import Path

import anyio
import orjson
import pytest

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.support.command_line import CommandLine
from tests.support.daemons import open_doors, running_daemon
from tests.support.disks import DISKS, Disk, fill, small_disk
from tests.support.relays import (
    API_KEY,
    DEADLINE_S,
    Relay,
    app_environment,
    event,
    running_relay,
)

MIN_FREE = str(16 * 1024 * 1024)

pytestmark = pytest.mark.slow


async def until_rejected(relay: Relay) -> None:
    """Wait until new events get 503, then assert that `/readyz` says why."""
    with anyio.fail_after(DEADLINE_S):
        number = 100_000
        while (await relay.post(event(number))).status == 200:
            number += 1
    ready = await relay.ask("GET", f"{relay.public}/readyz")
    assert (ready.status, ready.json["checks"]["intake"]) == (503, "disk_full")


async def test_a_full_disk_accepts_nothing_and_still_drains(tmp_path: Path) -> None:
    """Delivery needs no free byte, and 200s resume once there is space."""
    amplitude = AmplitudeStandIn([API_KEY])
    with small_disk(tmp_path / "disk") as disk:
        async with running(amplitude.app()) as url:
            environment = {
                **app_environment("shop", str(url).rstrip("/")),
                "RELAY_OUTBOX__MIN_FREE_BYTES": MIN_FREE,
            }
            async with running_relay(disk / "data", environment) as relay:
                amplitude.faults.add("503")
                for first in range(0, 10_000, 1000):
                    await relay.post([event(n) for n in range(first, first + 1000)])
                filler = fill(disk)
                await until_rejected(relay)
                fill(disk)
                amplitude.faults.clear()
                status = await relay.settled()
                assert status["delivered"] == status["accepted"] >= 10_000
                assert status["delivered"] == len(amplitude.ledger.account(API_KEY).insert_ids)
                filler.unlink()
                with anyio.fail_after(DEADLINE_S):
                    while (await relay.post(event(999_999))).status != 200:
                        await anyio.sleep(0.05)


@pytest.mark.parametrize("disk_of_its_own", DISKS)
async def test_a_relay_killed_on_a_full_disk_starts_there_and_drains(
    tmp_path: Path, disk_of_its_own: Disk
) -> None:
    """The ballast is released before the database is opened."""
    amplitude = AmplitudeStandIn([API_KEY])
    with disk_of_its_own(tmp_path / "disk") as disk:
        async with running(amplitude.app()) as url:
            command = CommandLine(
                disk,
                RELAY_OUTBOX__MIN_FREE_BYTES=MIN_FREE,
                RELAY_APPS__SHOP__AMPLITUDE_API_KEY=API_KEY,
                RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=str(url).rstrip("/"),
                RELAY_DELIVERY__BACKOFF_CAP_S="1",
            )
            amplitude.faults.add("503")
            async with open_doors(command) as doors:
                async with running_daemon(command) as daemon:
                    await daemon.until("relay.ready")
                    for first in range(0, 10_000, 1_000):
                        body = orjson.dumps([event(n) for n in range(first, first + 1_000)])
                        assert (await doors.post(body))[0] == 200
                    fill(disk)
                    daemon.kill()
                    await daemon.ended()
                fill(disk)
                amplitude.faults.clear()
                async with running_daemon(command) as daemon:
                    await daemon.until("relay.ready")
                    assert (await doors.readiness())[0] == 503
                    counts = await doors.drained()
                    assert counts.delivered == counts.accepted == 10_000
                    daemon.terminate()
                    assert await daemon.ended() == 0
