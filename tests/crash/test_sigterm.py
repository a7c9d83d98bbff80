"""The daemon is asked to end: what is under way comes to its end, and nothing is lost."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.crash.accounting import imbalances, untruths
from tests.crash.connections import connected
from tests.crash.trial import Campaign, prepared
from tests.support.command_line import API_KEY, CommandLine
from tests.support.daemons import APP, Doors, Life, hasty, living, open_doors

pytestmark = pytest.mark.slow

END_S = 10.0
"""systemd kills what has not ended by then."""

SLACK_S = 2.0
"""For a machine that is busy with other tests."""

IN_FLIGHT = 8
EVENTS = 30


@dataclass(frozen=True)
class Stage:
    """A daemon's surroundings."""

    relay: CommandLine
    amplitude: AmplitudeStandIn
    doors: Doors
    campaign: Campaign

    async def post(self, count: int) -> list[str]:
        """Have `count` new events acknowledged; return their ids."""
        events = [self.campaign.one() for _ in range(count)]
        status, counts = await self.doors.post(b"[%b]" % b",".join(body for _, body in events))
        assert (status, counts["accepted"]) == (200, count)
        return [name for name, _ in events]

    async def met(self, fault: str, **limits: float) -> None:
        """Have an event acknowledged whose upload meets a fault."""
        self.amplitude.faults.add(fault, count=1, **limits)
        await self.post(1)
        await self.amplitude.ledger.wait_until(
            lambda book: any(line.fault == fault for line in book.requests)
        )

    @property
    def held(self) -> list[str]:
        """Insert ids of the events Amplitude counted."""
        return self.amplitude.ledger.account(API_KEY).insert_ids


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Set the stage while the block runs."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        relay = hasty(folder, url, DELIVERY__REQUEST_TIMEOUT_S="30")
        async with open_doors(relay) as doors:
            yield Stage(relay, amplitude, doors, Campaign(7))


async def stop(life: Life) -> float:
    """Ask for an end; return when it began, in monotonic seconds."""
    began_s = monotonic()
    life.terminate()
    await life.until("relay.stopping")
    return began_s


async def ended_in_order(life: Life, began_s: float) -> None:
    """Hold the end against what is promised of it."""
    assert await life.ended() == 0
    assert monotonic() - began_s < END_S + SLACK_S
    assert life.logged("relay.stopped")
    assert life.errors == b""


async def test_in_mid_traffic_every_request_in_flight_is_answered(tmp_path: Path) -> None:
    """Bodies that were still coming are taken; the rest finds the next daemon."""
    async with prepared(tmp_path, seed=11) as trial:

        async def end(life: Life) -> None:
            await trial.inspect(life)
            await life.until("batch.uploaded", 3)
            async with AsyncExitStack() as stack:
                requests = []
                for _ in range(IN_FLIGHT):
                    name, body = trial.campaign.one()
                    connection = await stack.enter_async_context(connected(trial.relay.public))
                    await connection.begin(body, sent=len(body) // 2)
                    requests.append((name, body, connection))
                await trial.doors.readiness()  # the daemon has read what was sent before
                began_s = await stop(life)
                for name, body, connection in requests:
                    await connection.send(body[len(body) // 2 :])
                    status, said = await connection.answer()
                    assert status == 200, said
                    trial.own.add(name)
                await ended_in_order(life, began_s)

        outcome = await trial.run([end, end, end])
    assert imbalances(outcome.books) == []
    assert untruths(outcome.standing, outcome.books) == []
    assert trial.wrong == []


async def test_a_body_that_does_not_come_gets_three_seconds(tmp_path: Path) -> None:
    """Then its sender is told to come again, and idle connections hold up nothing."""
    async with staged(tmp_path) as stage, living(stage.relay) as life:
        await life.until("relay.ready")
        async with connected(stage.relay.public) as idle, connected(stage.relay.public) as late:
            _, body = stage.campaign.one()
            await late.begin(body, sent=100)
            await stage.doors.readiness()
            began_s = await stop(life)
            status, said = await late.answer()
            waited_s = monotonic() - began_s
            await idle.closed()
            await ended_in_order(life, began_s)
    assert (status, said) == (503, b'{"error":"relay is stopping"}')
    assert 2.5 < waited_s < END_S


async def test_the_admin_door_gives_a_body_three_seconds_too(tmp_path: Path) -> None:
    """A file that was being handed in is refused in words, not cut; nothing else holds it up."""
    async with staged(tmp_path) as stage, living(stage.relay) as life:
        await life.until("relay.ready")
        async with connected(stage.relay.admin) as idle, connected(stage.relay.admin) as late:
            await late.begin(b"id," * 100, sent=100, path=f"/api/v1/directory/{APP}/import")
            await stage.doors.readiness(admin=True)
            began_s = await stop(life)
            status, said = await late.answer()
            waited_s = monotonic() - began_s
            await idle.closed()
            await ended_in_order(life, began_s)
    assert (status, said) == (503, b'{"error":"relay is stopping"}')
    assert 2.5 < waited_s < END_S


async def test_an_upload_under_way_is_settled_first(tmp_path: Path) -> None:
    """It is not made again by the next daemon."""
    async with staged(tmp_path) as stage:
        async with living(stage.relay) as life:
            await life.until("relay.ready")
            stage.amplitude.faults.add("slow", count=1, delay_s=2)
            names = await stage.post(EVENTS)
            while not (await stage.doors.standing()).in_flight:
                pass
            await ended_in_order(life, await stop(life))
        async with living(stage.relay) as life:
            await life.until("relay.ready")
            standing = await stage.doors.drained()
        account = stage.amplitude.ledger.account(API_KEY)
    assert sorted(stage.held) == sorted(names)
    assert standing.delivered == EVENTS
    assert account.duplicates == 0


async def test_an_upload_that_hangs_is_left_to_the_next_start(tmp_path: Path) -> None:
    """Meanwhile the public door is closed, and the admin door says so."""
    async with staged(tmp_path) as stage:
        async with living(stage.relay) as life:
            await life.until("relay.ready")
            await stage.met("hang")
            began_s = await stop(life)
            while True:
                status, checks = await stage.doors.readiness(admin=True)
                assert (status, checks["intake"]) == (503, "stopping")
                try:
                    await stage.doors.readiness()
                except aiohttp.ClientConnectorError:
                    break
            before = await stage.doors.standing()
            await ended_in_order(life, began_s)
        stage.amplitude.faults.clear()
        async with living(stage.relay) as life:
            await life.until("relay.ready")
            after = await stage.doors.drained()
    assert (before.pending, before.in_flight, before.delivered) == (1, 1, 0)
    assert (after.accepted, after.delivered) == (1, 1)
    assert len(stage.held) == 1


async def test_a_kill_while_it_drains_loses_nothing(tmp_path: Path) -> None:
    """Whoever has no patience may kill it."""
    async with staged(tmp_path) as stage:
        async with living(stage.relay) as life:
            await life.until("relay.ready")
            await stage.met("stored_hang")
            await stop(life)
            life.kill()
            assert await life.ended() < 0
        stage.amplitude.faults.clear()
        async with living(stage.relay) as life:
            await life.until("relay.ready")
            standing = await stage.doors.drained()
        account = stage.amplitude.ledger.account(API_KEY)
    assert (standing.accepted, standing.delivered) == (1, 1)
    assert (len(account.insert_ids), account.duplicates) == (1, 1)


async def test_nothing_that_stalls_at_any_door_holds_it_up(tmp_path: Path) -> None:
    """A body that stalls at each door and an upload that hangs together stay in the limit."""
    async with staged(tmp_path) as stage, living(stage.relay) as life:
        await life.until("relay.ready")
        await stage.met("hang")
        async with connected(stage.relay.public) as hook, connected(stage.relay.admin) as admin:
            await hook.begin(b"{}" * 100, sent=10)
            await admin.begin(b"{}" * 100, sent=10, path="/api/v1/dead-letters/retry")
            await stage.doors.readiness()
            await stage.doors.readiness(admin=True)
            began_s = await stop(life)
            await ended_in_order(life, began_s)


async def test_a_second_daemon_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    """It refuses the folder while the first lives, and not a moment longer."""
    async with staged(tmp_path) as stage:
        async with living(stage.relay) as first:
            await first.until("relay.ready")
            doors = {"RELAY_LISTEN": "127.0.0.1:0", "RELAY_ADMIN_LISTEN": "127.0.0.1:0"}
            second = await stage.relay.run("serve", **doors)
            assert second.code == 1
            assert "is in use by another relay" in second.err
            await stage.post(1)
            first.kill()
            await first.ended()
        async with living(stage.relay) as third:
            await third.until("relay.ready")
            await stage.doors.drained()
    assert len(stage.held) == 1
