"""A slow disk: answers wait for it, and nothing else goes wrong."""

from pathlib import Path
from time import monotonic

import anyio
import pytest
from aiohttp import ClientSession

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.crash.crash_run import EndlessTraffic
from tests.support.command_line import API_KEY
from tests.support.daemons import POLL_S, Doors, fast_relay, open_doors, running_daemon
from tests.support.options import option

pytestmark = pytest.mark.slow

SENDERS, EVENTS = 40, 4
SYNCS = 2
"""A request waits for the running sync and for its own."""

WORK_S = 3.0
"""For everything but the disk, on a busy machine."""


async def test_a_slow_disk_makes_answers_slow_and_nothing_else(tmp_path: Path) -> None:
    """No answer before its sync, waiting requests share the next one, every loop stays alive."""
    sync_s = option("SLOW_SYNC_MS", 300) / 1000
    tracer = ["strace", "-D", "-f", "-q", "-e", "trace=fdatasync"]
    delay = f"inject=fdatasync:delay_exit={round(sync_s * 1e6)}"
    amplitude, traffic = AmplitudeStandIn([API_KEY]), EndlessTraffic(8)
    waits_s: list[float] = []
    async with running(amplitude.app()) as url:
        relay = fast_relay(tmp_path, url)
        async with open_doors(relay) as doors:
            async with running_daemon(relay, under=[*tracer, "-e", delay]) as daemon:
                await daemon.until("relay.ready")
                async with anyio.create_task_group() as watching:
                    watching.start_soon(_expect_alive, relay.public)
                    async with anyio.create_task_group() as senders:
                        for _ in range(SENDERS):
                            senders.start_soon(_send, doors, traffic, waits_s)
                    watching.cancel_scope.cancel()
                daemon.kill()
                await daemon.ended()
            async with running_daemon(relay) as daemon:
                await daemon.until("relay.ready")
                counts = await doors.drained()
    held = amplitude.ledger.account(API_KEY).insert_ids
    assert counts.accepted == len(waits_s) == SENDERS * EVENTS
    assert len(held) == len(set(held)) == counts.accepted
    assert min(waits_s) >= sync_s
    assert max(waits_s) <= SYNCS * sync_s + WORK_S


async def _send(doors: Doors, traffic: EndlessTraffic, waits_s: list[float]) -> None:
    for _ in range(EVENTS):
        _, body = traffic.one()
        began_s = monotonic()
        status, _ = await doors.post(body)
        waits_s.append(monotonic() - began_s)
        assert status == 200


async def _expect_alive(door: str) -> None:
    async with ClientSession() as http:
        while True:
            async with http.get(f"{door}/healthz") as answer:
                assert answer.status == 200, await answer.text()
            await anyio.sleep(POLL_S)
