"""Every 200 leaves after the sync that covers its event, as the system calls prove."""

from pathlib import Path

import anyio
import pytest
from aiohttp import ClientError

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.crash.crash_run import EndlessTraffic
from tests.crash.syscalls import CALLS, LOG_NAME, judge_trace
from tests.support.command_line import API_KEY
from tests.support.daemons import Doors, fast_relay, open_doors, running_daemon
from tests.support.options import option

pytestmark = pytest.mark.slow

TRACER = ["strace", "-D", "-f", "-q", "-y", "-s", "6000", "-e", f"trace={CALLS}"]
"""Traces as a grandchild, so that the daemon is our own child; shows whole bodies."""

FAILING = ["strace", "-D", "-f", "-q", "-e", "trace=fdatasync"]
"""Makes every sync fail from a given one on."""

SENDERS = 8
EVENTS = option("TRACED_EVENTS", 60)
"""Of each sender."""


async def test_no_200_leaves_before_its_event_is_synced(tmp_path: Path) -> None:
    """Including events that share a sync, and repetitions."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        relay = fast_relay(tmp_path, url)
        async with open_doors(relay) as doors, running_daemon(relay, under=TRACER) as daemon:
            await daemon.until("relay.ready")
            traffic = EndlessTraffic(3)
            async with anyio.create_task_group() as senders:
                for _ in range(SENDERS):
                    senders.start_soon(_send, doors, traffic)
            counts = await doors.drained()
            daemon.kill()
            await daemon.ended()
    trace = daemon.errors.decode().splitlines()
    verdict = judge_trace(trace)
    assert counts.accepted == SENDERS * EVENTS
    assert verdict.answers == counts.accepted + counts.duplicate
    assert verdict.early == []
    blind = judge_trace(line for line in trace if f"{LOG_NAME}>) = 0" not in line)
    assert blind.early  # without the syncs the same trace does not pass


@pytest.mark.parametrize("first", [40, 41, 42, 43])
async def test_a_sync_that_fails_ends_the_daemon_and_nothing_more(
    tmp_path: Path, first: int
) -> None:
    """What could not be synced is not answered 200; the next start continues."""
    amplitude = AmplitudeStandIn([API_KEY])
    tracer = [*FAILING, "-e", f"inject=fdatasync:error=EIO:when={first}+"]
    async with running(amplitude.app()) as url:
        relay = fast_relay(tmp_path, url)
        traffic = EndlessTraffic(4)
        async with open_doors(relay) as doors, running_daemon(relay, under=tracer) as daemon:
            await daemon.until("relay.ready")
            acknowledged = await _send_until_rejected(doors, traffic)
            assert await daemon.ended() == 1
        async with open_doors(relay) as doors, running_daemon(relay) as daemon:
            await daemon.until("relay.ready")
            counts = await doors.drained()
        held = amplitude.ledger.account(API_KEY).insert_ids
    assert acknowledged
    assert set(acknowledged) <= set(held)
    assert counts.accepted == counts.delivered == len(held)


async def _send_until_rejected(doors: Doors, traffic: EndlessTraffic) -> list[str]:
    """Send events one by one; return the ids of those answered 200."""
    acknowledged: list[str] = []
    while True:
        name, body = traffic.one()
        try:
            status, _ = await doors.post(body)
        except ClientError:
            return acknowledged
        if status != 200:
            return acknowledged
        acknowledged.append(name)


async def _send(doors: Doors, traffic: EndlessTraffic) -> None:
    for number in range(EVENTS):
        _, body = traffic.one()
        async with anyio.create_task_group() as twins:
            twins.start_soon(_expect_200, doors, body)
            if number % 5 == 0:
                twins.start_soon(_expect_200, doors, body)


async def _expect_200(doors: Doors, body: bytes) -> None:
    status, _ = await doors.post(body)
    assert status == 200
