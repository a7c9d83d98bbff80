"""The daemon is asked to stop: work in flight is completed, and nothing is lost."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.crash.accounting import imbalances, wrong_counts
from tests.crash.connections import connected
from tests.crash.crash_run import EndlessTraffic, prepared
from tests.support.command_line import API_KEY, CommandLine
from tests.support.daemons import APP, DaemonProcess, Doors, fast_relay, open_doors, running_daemon

pytestmark = pytest.mark.slow

END_S = 10.0
"""systemd kills the daemon after this."""

SLACK_S = 2.0
"""For a machine that is busy with other tests."""

IN_FLIGHT = 8
EVENTS = 30


@dataclass(frozen=True)
class Setup:
    """A daemon's configuration, its stand-in and a client."""

    relay: CommandLine
    amplitude: AmplitudeStandIn
    doors: Doors
    traffic: EndlessTraffic

    async def post(self, count: int) -> list[str]:
        """Have `count` new events acknowledged; return their ids."""
        events = [self.traffic.one() for _ in range(count)]
        status, counts = await self.doors.post(b"[%b]" % b",".join(body for _, body in events))
        assert (status, counts["accepted"]) == (200, count)
        return [name for name, _ in events]

    async def met(self, fault: str, **limits: float) -> None:
        """Have an event acknowledged whose upload meets a fault."""
        self.amplitude.faults.add(fault, count=1, **limits)
        await self.post(1)
        await self.amplitude.ledger.wait_until(
            lambda account: any(line.fault == fault for line in account.requests)
        )

    @property
    def held(self) -> list[str]:
        """Insert ids of the events Amplitude counted."""
        return self.amplitude.ledger.account(API_KEY).insert_ids


@asynccontextmanager
async def prepared_setup(folder: Path) -> AsyncIterator[Setup]:
    """Provide the surroundings while the block runs."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        relay = fast_relay(folder, url, DELIVERY__REQUEST_TIMEOUT_S="30")
        async with open_doors(relay) as doors:
            yield Setup(relay, amplitude, doors, EndlessTraffic(7))


async def stop(daemon: DaemonProcess) -> float:
    """Send SIGTERM; return when, in monotonic seconds."""
    began_s = monotonic()
    daemon.terminate()
    await daemon.until("relay.stopping")
    return began_s


async def ended_in_order(daemon: DaemonProcess, began_s: float) -> None:
    """Assert a clean exit within the promised time."""
    assert await daemon.ended() == 0
    assert monotonic() - began_s < END_S + SLACK_S
    assert daemon.logged("relay.stopped")
    assert daemon.errors == b""


async def test_in_mid_traffic_every_request_in_flight_is_answered(tmp_path: Path) -> None:
    """Bodies still arriving are accepted; later requests reach the next daemon."""
    async with prepared(tmp_path, seed=11) as crashes:

        async def end(daemon: DaemonProcess) -> None:
            await crashes.inspect(daemon)
            await daemon.until("batch.uploaded", 3)
            async with AsyncExitStack() as stack:
                requests = []
                for _ in range(IN_FLIGHT):
                    name, body = crashes.traffic.one()
                    connection = await stack.enter_async_context(connected(crashes.relay.public))
                    await connection.begin(body, sent=len(body) // 2)
                    requests.append((name, body, connection))
                await crashes.doors.readiness()  # the daemon has read the earlier bytes
                began_s = await stop(daemon)
                for name, body, connection in requests:
                    await connection.send(body[len(body) // 2 :])
                    status, said = await connection.answer()
                    assert status == 200, said
                    crashes.own.add(name)
                await ended_in_order(daemon, began_s)

        outcome = await crashes.run([end, end, end])
    assert imbalances(outcome.accounts) == []
    assert wrong_counts(outcome.counts, outcome.accounts) == []
    assert crashes.wrong == []


async def test_a_body_that_does_not_come_gets_three_seconds(tmp_path: Path) -> None:
    """Then its sender gets 503, and idle connections delay nothing."""
    async with prepared_setup(tmp_path) as setup, running_daemon(setup.relay) as daemon:
        await daemon.until("relay.ready")
        async with connected(setup.relay.public) as idle, connected(setup.relay.public) as late:
            _, body = setup.traffic.one()
            await late.begin(body, sent=100)
            await setup.doors.readiness()
            began_s = await stop(daemon)
            status, said = await late.answer()
            waited_s = monotonic() - began_s
            await idle.closed()
            await ended_in_order(daemon, began_s)
    assert (status, said) == (503, b'{"error":"relay is stopping"}')
    assert 2.5 < waited_s < END_S


async def test_the_admin_door_gives_a_body_three_seconds_too(tmp_path: Path) -> None:
    """An upload of a file gets an error, not a reset, and delays nothing else."""
    async with prepared_setup(tmp_path) as setup, running_daemon(setup.relay) as daemon:
        await daemon.until("relay.ready")
        async with connected(setup.relay.admin) as idle, connected(setup.relay.admin) as late:
            await late.begin(b"id," * 100, sent=100, path=f"/api/v1/directory/{APP}/import")
            await setup.doors.readiness(admin=True)
            began_s = await stop(daemon)
            status, said = await late.answer()
            waited_s = monotonic() - began_s
            await idle.closed()
            await ended_in_order(daemon, began_s)
    assert (status, said) == (503, b'{"error":"relay is stopping"}')
    assert 2.5 < waited_s < END_S


async def test_an_upload_in_flight_is_settled_first(tmp_path: Path) -> None:
    """The next daemon does not repeat it."""
    async with prepared_setup(tmp_path) as setup:
        async with running_daemon(setup.relay) as daemon:
            await daemon.until("relay.ready")
            setup.amplitude.faults.add("slow", count=1, delay_s=2)
            names = await setup.post(EVENTS)
            while not (await setup.doors.counts()).in_flight:
                pass
            await ended_in_order(daemon, await stop(daemon))
        async with running_daemon(setup.relay) as daemon:
            await daemon.until("relay.ready")
            counts = await setup.doors.drained()
        account = setup.amplitude.ledger.account(API_KEY)
    assert sorted(setup.held) == sorted(names)
    assert counts.delivered == EVENTS
    assert account.duplicates == 0


async def test_an_upload_that_hangs_is_left_to_the_next_start(tmp_path: Path) -> None:
    """Meanwhile the public door is closed, and the admin door reports it."""
    async with prepared_setup(tmp_path) as setup:
        async with running_daemon(setup.relay) as daemon:
            await daemon.until("relay.ready")
            await setup.met("hang")
            began_s = await stop(daemon)
            while True:
                status, checks = await setup.doors.readiness(admin=True)
                assert (status, checks["intake"]) == (503, "stopping")
                try:
                    await setup.doors.readiness()
                except aiohttp.ClientConnectorError:
                    break
            before = await setup.doors.counts()
            await ended_in_order(daemon, began_s)
        setup.amplitude.faults.clear()
        async with running_daemon(setup.relay) as daemon:
            await daemon.until("relay.ready")
            after = await setup.doors.drained()
    assert (before.pending, before.in_flight, before.delivered) == (1, 1, 0)
    assert (after.accepted, after.delivered) == (1, 1)
    assert len(setup.held) == 1


async def test_a_kill_while_it_drains_loses_nothing(tmp_path: Path) -> None:
    """An impatient operator may kill it."""
    async with prepared_setup(tmp_path) as setup:
        async with running_daemon(setup.relay) as daemon:
            await daemon.until("relay.ready")
            await setup.met("stored_hang")
            await stop(daemon)
            daemon.kill()
            assert await daemon.ended() < 0
        setup.amplitude.faults.clear()
        async with running_daemon(setup.relay) as daemon:
            await daemon.until("relay.ready")
            counts = await setup.doors.drained()
        account = setup.amplitude.ledger.account(API_KEY)
    assert (counts.accepted, counts.delivered) == (1, 1)
    assert (len(account.insert_ids), account.duplicates) == (1, 1)


async def test_stalls_at_every_door_do_not_delay_the_stop(tmp_path: Path) -> None:
    """A stalled body at each door and a hanging upload together stay within the limit."""
    async with prepared_setup(tmp_path) as setup, running_daemon(setup.relay) as daemon:
        await daemon.until("relay.ready")
        await setup.met("hang")
        async with connected(setup.relay.public) as webhook, connected(setup.relay.admin) as admin:
            await webhook.begin(b"{}" * 100, sent=10)
            await admin.begin(b"{}" * 100, sent=10, path="/api/v1/dead-letters/retry")
            await setup.doors.readiness()
            await setup.doors.readiness(admin=True)
            began_s = await stop(daemon)
            await ended_in_order(daemon, began_s)


async def test_a_second_daemon_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    """It rejects the folder while the first runs, and not a moment longer."""
    async with prepared_setup(tmp_path) as setup:
        async with running_daemon(setup.relay) as first:
            await first.until("relay.ready")
            doors = {"RELAY_LISTEN": "127.0.0.1:0", "RELAY_ADMIN_LISTEN": "127.0.0.1:0"}
            second = await setup.relay.run("serve", **doors)
            assert second.code == 1
            assert "is in use by another relay" in second.err
            await setup.post(1)
            first.kill()
            await first.ended()
        async with running_daemon(setup.relay) as third:
            await third.until("relay.ready")
            await setup.doors.drained()
    assert len(setup.held) == 1
