"""Health responses when a loop is stuck or nothing is accepted."""

from pathlib import Path

from relay.database.ballast import BallastFile
from relay.heartbeat import SLACK_S, Heartbeat
from relay.ingest.admission import AdmissionControl
from relay.observability.health import Health
from relay.outbox.counters import AppCounters, AppState, Counts
from tests.support.clocks import FakeClock
from tests.support.outboxes import running_outbox


async def test_a_silent_loop_is_reported_until_its_next_heartbeat(tmp_path: Path) -> None:
    """The watchdog and `/healthz` name the loop; `/readyz` fails with them."""
    clock = FakeClock()
    async with running_outbox(tmp_path) as outbox:
        heartbeat = Heartbeat(clock)
        admission = AdmissionControl(
            BallastFile(tmp_path, 0), outbox.counters, Heartbeat(clock), max_events=1
        )
        health = Health({"sender": heartbeat}, admission)
        heartbeat.beat(30)
        clock.advance(30 + SLACK_S - 1)
        assert health.live().is_ok
        assert health.ready().is_ok
        clock.advance(2)
        assert health.live().checks == {"sender": "stuck"}
        assert not health.ready().is_ok
        heartbeat.beat()
        assert health.live().is_ok


async def test_the_reason_for_rejecting_events_is_named_and_no_loop_is_blamed(
    tmp_path: Path,
) -> None:
    """Stopping, a short disk and a full outbox are states of a live process."""
    clock = FakeClock()
    async with running_outbox(tmp_path) as outbox:
        full = AppCounters(
            outbox.database, [AppState(1, "shop", is_paused=False, counts=Counts(accepted=5))]
        )
        for ballast, ledger, is_stopping, word in (
            (BallastFile(tmp_path, 0), outbox.counters, True, "stopping"),
            (BallastFile(tmp_path, 1 << 62), outbox.counters, False, "disk_full"),
            (BallastFile(tmp_path, 0), full, False, "outbox_full"),
        ):
            ballast.refresh()
            admission = AdmissionControl(ballast, ledger, Heartbeat(clock), max_events=5)
            admission.is_stopping = is_stopping
            health = Health({}, admission)
            assert health.ready().checks["intake"] == word
            assert health.live().is_ok
