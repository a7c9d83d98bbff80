"""Clock steps, suspension, the end of summer time: no storm, no stuck wait, no false expiry.

`step_wall_clock` moves only the wall clock, as an operator, a time server or a dead battery does;
`advance` lets time pass; `suspend` lets it pass while the machine sleeps.
"""

from pathlib import Path
from time import monotonic

import anyio
import orjson
import pytest

from relay.clock import CLOCK_TRUST_S, SteadyClock, SystemClock
from relay.maintenance import MaintenancePolicy
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.onesignal.csv_export import CsvExportStandIn
from tests.support.clocks import START_MS, AdjustableClock, FakeClock
from tests.support.cohort_relays import ONESIGNAL_KEY, SECRET_KEY, World, world
from tests.support.command_line import API_KEY as CHILD_KEY
from tests.support.daemons import fast_relay, open_doors, running_daemon
from tests.support.relays import API_KEY, APP_ID, DEADLINE_S, Relay, event, relay_and_amplitude

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S

WRONG_BY = [DAY_S, -DAY_S, 73 * YEAR_S, -50 * YEAR_S]
WRONG = pytest.mark.parametrize(
    "wrong_s", WRONG_BY, ids=["a day ahead", "a day back", "in 2099", "in the seventies"]
)
TICK_S = 0.1
RARELY = {"RELAY_COHORTS__POLL_INTERVAL_S": "3600"}


@pytest.fixture(autouse=True)
def _frequent_maintenance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.daemon.runtime.OUTBOX", MaintenancePolicy(tick_s=TICK_S))


async def _post(relay: Relay, *numbers: int) -> dict[str, int]:
    """Send events; return the counts of the response."""
    answer = await relay.post([event(number) for number in numbers])
    assert answer.status == 200
    counts: dict[str, int] = answer.json
    return counts


async def _tried(relay: Relay, times: int = 1) -> None:
    """Wait until this many more uploads have failed."""
    metric = 'relay_uploads_total{app="shop",outcome="retry"}'
    before = await _metric(relay, metric)
    with anyio.fail_after(DEADLINE_S):
        while await _metric(relay, metric) < before + times:
            await anyio.sleep(0.01)


async def _metric(relay: Relay, name: str) -> float:
    page = (await relay.ask("GET", f"{relay.admin}/metrics")).body.decode()
    found = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith(name + " ")]
    return float(found[0]) if found else 0.0


# Events: they expire by the time that passes, and by nothing else.


@WRONG
async def test_a_clock_that_is_wrong_for_a_while_expires_nothing(
    tmp_path: Path, wrong_s: float
) -> None:
    """Neither the step nor the correction expires what Amplitude would still deduplicate."""
    clock = AdjustableClock()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        await _post(relay, 1, 2)
        await _tried(relay)
        clock.step_wall_clock(wrong_s)
        await _post(relay, 3)
        await _tried(relay, 3)
        clock.step_wall_clock(0)
        await _tried(relay, 3)
        amplitude.faults.clear()
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (3, 0)
        assert set(amplitude.ledger.account(API_KEY).insert_ids) == {
            event(number)["event"]["id"] for number in (1, 2, 3)
        }


@WRONG
async def test_what_a_wrong_clock_tried_expires_at_no_later_start(
    tmp_path: Path, wrong_s: float
) -> None:
    """A machine without a battery boots in 1970; its attempts must not count as 50 years old."""
    clock = AdjustableClock()
    clock.step_wall_clock(wrong_s)
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        await _post(relay, 1)
        await _tried(relay)
        clock.step_wall_clock(0)
        await anyio.sleep(3 * TICK_S)  # maintenance records the step
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, _):
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (1, 0)


@pytest.mark.parametrize("wrong_s", [DAY_S, -DAY_S, 73 * YEAR_S])
async def test_a_clock_put_right_while_relay_is_down_expires_nothing_but_the_old(
    tmp_path: Path, wrong_s: float
) -> None:
    """The step was not observed, so attempts dated in the future count as made just now."""
    clock = AdjustableClock()
    clock.step_wall_clock(wrong_s)
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        await _post(relay, 1)
        await _tried(relay)
    clock.step_wall_clock(0)
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        await _tried(relay)
        clock.advance(5 * DAY_S)
        await _tried(relay, 3)
        assert (await relay.status())["dead"] == 0
        clock.advance(2 * DAY_S)
        assert (await relay.settled())["dead"] == 1
        amplitude.faults.clear()


@WRONG
async def test_a_clock_step_of_earlier_days_expires_nothing_of_today(
    tmp_path: Path, wrong_s: float
) -> None:
    """A recorded step is dropped with the last event attempted before it."""
    clock = AdjustableClock()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        clock.step_wall_clock(wrong_s)
        await anyio.sleep(3 * TICK_S)  # maintenance records it
        await _post(relay, 1)
        await relay.settled()
    clock.step_wall_clock(0)
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        await _post(relay, 2)
        await _tried(relay)
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        assert (await relay.settled())["delivered"] == 2


@WRONG
async def test_what_is_too_old_expires_though_the_clock_was_wrong(
    tmp_path: Path, wrong_s: float
) -> None:
    """A wrong clock keeps no event alive for ever, and the dead letter's dates are right."""
    clock = AdjustableClock()
    clock.step_wall_clock(wrong_s)
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        tried_at = clock.now_ms() - wrong_s * 1000
        await _post(relay, 1)
        await _tried(relay)
        clock.step_wall_clock(0)
        await _tried(relay, 2)
        clock.advance(6 * DAY_S)
        await _tried(relay, 3)
        assert (await relay.status())["dead"] == 0
        clock.advance(DAY_S)
        await relay.settled()
        (dead_letter,) = await relay.dead_letters()
        assert dead_letter["reason"] == "expired"
        assert abs(dead_letter["first_tried_at"] - tried_at) < 60_000
        amplitude.faults.clear()


async def test_a_suspension_counts_as_time(tmp_path: Path) -> None:
    """Amplitude's memory runs out while the machine sleeps: one night is safe, a week is not."""
    clock = AdjustableClock()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        await _post(relay, 1)
        await _tried(relay)
        clock.suspend(10 * 3600)
        await _tried(relay, 2)
        assert (await relay.status())["dead"] == 0
        clock.suspend(7 * DAY_S)
        assert (await relay.settled())["dead"] == 1
        amplitude.faults.clear()


@WRONG
async def test_a_clock_step_changes_no_wait_of_delivery(tmp_path: Path, wrong_s: float) -> None:
    """Holds and backoffs end on time: neither at the step nor days later."""
    clock = AdjustableClock()
    changes = {"RELAY_DELIVERY__THROTTLE_HOLD_S": "1"}
    async with relay_and_amplitude(tmp_path, changes, clock=clock) as (relay, amplitude):
        device = event(1)["event"]["subscription_id"]
        amplitude.conditions.throttled_devices = {device: 31}
        await _post(relay, 1)
        await amplitude.ledger.wait_until(lambda ledger: len(ledger.requests) == 1)
        amplitude.conditions.throttled_devices = {}
        clock.step_wall_clock(wrong_s)
        with anyio.fail_after(DEADLINE_S):
            assert (await relay.settled())["delivered"] == 1
        first, second = list(amplitude.ledger.requests)
        assert 900 <= second.at - first.at < 10_000
        amplitude.faults.add("503", count=3)
        await _post(relay, 2)
        clock.step_wall_clock(0)
        assert (await relay.settled())["delivered"] == 2
        assert len(amplitude.ledger.requests) == 6


# What is remembered.


@pytest.mark.slow
@pytest.mark.parametrize("wrong_s", [-DAY_S, 73 * YEAR_S], ids=["a day back", "in 2099"])
async def test_a_clock_step_expires_no_dedup_key(tmp_path: Path, wrong_s: float) -> None:
    """A clock set to 2099 must not expire every dedup key at once."""
    clock = AdjustableClock()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, _):
        await _post(relay, 1)
        await relay.settled()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, _):  # it folds at once
        clock.step_wall_clock(wrong_s)
        await _post(relay, 2)
        await relay.settled()
        await anyio.sleep(5 * TICK_S)  # maintenance runs a few times
        clock.step_wall_clock(0)
        await anyio.sleep(3 * TICK_S)
        assert (await _post(relay, 1, 2))["duplicate"] == 2
    clock.step_wall_clock(wrong_s)  # and a start with a wrong clock
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, _):
        await anyio.sleep(3 * TICK_S)
        assert (await _post(relay, 1, 2))["duplicate"] == 2


def test_a_clock_is_trusted_once_it_has_run_on() -> None:
    """After a step or a start, wall time is trusted once it has run on; a suspension is no step."""
    clock = FakeClock()
    watch = SteadyClock(clock)
    assert not watch.is_trusted()
    clock.advance(CLOCK_TRUST_S / 2)
    assert not watch.is_trusted()
    clock.suspend(CLOCK_TRUST_S / 2)
    assert watch.is_trusted()
    clock.set_wall(clock.now_ms() + 30_000)
    assert watch.is_trusted()  # a correction
    clock.set_wall(clock.now_ms() + 3_600_000)
    assert not watch.is_trusted()
    clock.advance(CLOCK_TRUST_S)
    assert watch.is_trusted()


def test_a_steady_clock_follows_back_at_once_and_ahead_once_trusted() -> None:
    """It shows elapsed time until the step is trusted."""
    clock = FakeClock()
    steady = SteadyClock(clock)
    clock.set_wall(START_MS + round(73 * YEAR_S * 1000))
    assert (steady.now_ms(), steady.is_behind()) == (START_MS, True)
    clock.advance(3600)
    assert steady.now_ms() == START_MS + 3_600_000
    clock.set_wall(START_MS + 3_600_000)
    assert (steady.now_ms(), steady.is_behind()) == (START_MS + 3_600_000, False)
    clock.set_wall(START_MS)
    assert steady.now_ms() == START_MS
    clock.suspend(DAY_S)
    assert (steady.now_ms(), steady.is_behind()) == (clock.now_ms(), False)
    clock.set_wall(clock.now_ms() + 3_600_000)
    assert steady.now_ms() == clock.now_ms() - 3_600_000
    clock.advance(CLOCK_TRUST_S)
    assert (steady.now_ms(), steady.is_behind()) == (clock.now_ms(), False)


def test_a_steady_clock_that_booted_in_1970_is_corrected_at_once() -> None:
    """A machine without a battery boots in 1970."""
    clock = FakeClock(0)
    steady = SteadyClock(clock)
    assert steady.now_ms() == 0
    clock.set_wall(START_MS)
    assert (steady.now_ms(), steady.is_behind()) == (START_MS, False)


# Cohorts and the directory.


def _asked(it: World, operation: str) -> int:
    """Return how often the cohorts API was called for something."""
    return sum(call.operation == operation for call in it.cohorts.requests)


def _exports(it: World) -> int:
    """Return how many exports OneSignal was asked for."""
    return sum(call.operation == "export" for call in it.exports.requests)


async def _sync(it: World) -> None:
    """Have an export begin once no other is running."""
    with anyio.fail_after(DEADLINE_S):
        while (await it.relay.api("POST", "/directory/shop/sync")).json != {"affected": 1}:
            await anyio.sleep(0.01)


async def _members(it: World, *wanted: str) -> None:
    query = "SELECT external_id FROM segment_members ORDER BY external_id"
    await it.until(query, lambda rows: [name for (name,) in rows] == list(wanted))


@WRONG
async def test_a_clock_step_requests_nothing_twice(tmp_path: Path, wrong_s: float) -> None:
    """A clock step triggers no list, no cohort export and no directory export."""
    clock = AdjustableClock()
    changes = RARELY | {"RELAY_DIRECTORY__SYNC_INTERVAL_S": "3600"}
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    cohorts.put(StandInCohort(id="buyers", user_ids=["u1"]))
    async with world(tmp_path, changes, cohorts=cohorts, clock=clock) as it:
        await it.relay.know("u1")
        await _members(it, "u1")
        with anyio.fail_after(DEADLINE_S):
            while not _exports(it):
                await anyio.sleep(0.01)
        before = (_asked(it, "list"), _asked(it, "request"), _exports(it))
        for seconds in (wrong_s, 0.0):
            clock.step_wall_clock(seconds)
            await it.relay.api("POST", "/segments/shop/nobody/sync")
            await anyio.sleep(0.6)
        assert (_asked(it, "list"), _asked(it, "request"), _exports(it)) == before


@pytest.mark.slow
@pytest.mark.parametrize("wrong_s", [-DAY_S, 73 * YEAR_S], ids=["a day back", "in 2099"])
async def test_a_clock_step_does_not_delay_the_directory(tmp_path: Path, wrong_s: float) -> None:
    """The next export runs when its interval has passed, at once after a night's suspension."""
    clock = AdjustableClock()
    changes = RARELY | {"RELAY_DIRECTORY__SYNC_INTERVAL_S": "3600"}
    exports = CsvExportStandIn({APP_ID: ONESIGNAL_KEY})
    exports.put([("anna", "s-1", 1, True)])
    async with world(tmp_path, changes, exports=exports, clock=clock) as it:
        with anyio.fail_after(DEADLINE_S):
            while not (await it.relay.api("GET", "/directory/shop")).json["synced_at"]:
                await anyio.sleep(0.01)
        clock.step_wall_clock(wrong_s)
        await _sync(it)  # made by a wrong clock
        with anyio.fail_after(DEADLINE_S):
            while (await it.relay.api("GET", "/directory/shop")).json["sync"]["is_running"]:
                await anyio.sleep(0.01)
        clock.step_wall_clock(0)
        clock.suspend(10 * 3600)
        with anyio.fail_after(DEADLINE_S):
            while _exports(it) < 3:
                await anyio.sleep(0.01)
    clock.step_wall_clock(-3 * DAY_S)
    async with world(tmp_path, changes, exports=exports, clock=clock) as it:
        with anyio.fail_after(DEADLINE_S):  # though it was last synced in the future
            while _exports(it) < 4:
                await anyio.sleep(0.01)


async def test_an_export_by_a_clock_ahead_does_not_outrank_later_ones(tmp_path: Path) -> None:
    """Of two exports the later one wins, whatever the clock said in between."""
    clock = AdjustableClock()
    async with world(tmp_path, clock=clock) as it:
        it.cohorts.put(StandInCohort(id="buyers", user_ids=["anna", "ben"]))
        it.exports.put([("anna", "s-1", 1, True), ("ben", "s-2", 1, True)])
        await _sync(it)
        count = "SELECT subscribed_count FROM segments"
        await it.until(count, lambda rows: rows == [(2,)])
        clock.step_wall_clock(73 * YEAR_S)
        it.exports.put([("anna", "s-1", 1, False), ("ben", "s-2", 1, True)])
        await _sync(it)
        await it.until(count, lambda rows: rows == [(1,)])
        clock.step_wall_clock(0)
        it.exports.put([("anna", "s-1", 1, True), ("ben", "s-2", 1, True)])
        await _sync(it)
        await it.until(count, lambda rows: rows == [(2,)])


async def test_a_clock_step_does_not_reset_the_month_of_downloads(tmp_path: Path) -> None:
    """The monthly budget is not reset before the new date is trusted."""
    clock = AdjustableClock()
    changes = {"RELAY_COHORTS__MONTHLY_DOWNLOADS": "1"}
    own = StandInCohort(id="buyers", user_ids=["u1"])
    async with world(tmp_path, changes, clock=clock) as it:
        it.cohorts.put(own)
        await it.relay.know("u1", "u2")
        await _members(it, "u1")
        clock.step_wall_clock(40 * DAY_S)
        it.cohorts.change("buyers", add=["u2"])
        lists = _asked(it, "list")
        with anyio.fail_after(DEADLINE_S):
            while _asked(it, "list") < lists + 5:
                await anyio.sleep(0.01)
        assert (_asked(it, "request"), (await it.segments())["downloads_left"]) == (1, 0)
        clock.advance(CLOCK_TRUST_S)
        await _members(it, "u1", "u2")


@WRONG
async def test_a_pause_amplitude_asked_for_ends_on_time(tmp_path: Path, wrong_s: float) -> None:
    """A step back does not stop downloads for a day; one ahead does not shorten the pause."""
    clock = AdjustableClock()
    async with world(tmp_path, clock=clock) as it:
        it.cohorts.faults.add("429", operation="request", count=1, retry_after=1)
        it.cohorts.put(StandInCohort(id="buyers", user_ids=["u1"]))
        await it.relay.know("u1")
        with anyio.fail_after(DEADLINE_S):
            while not _asked(it, "request"):
                await anyio.sleep(0.01)
        await it.run("failed")
        clock.step_wall_clock(wrong_s)
        await _members(it, "u1")
        first, second = [c.at for c in it.cohorts.requests if c.operation == "request"]
        assert 900 <= second - first < 10_000


# The real daemon, under a wall clock that the test moves.

SUMMER_ENDS_S = 1_792_890_000
"""2026-10-25 01:00 UTC: in Berlin the hour from two to three is repeated."""


def _faketime() -> Path:
    """Return the libfaketime library, which shifts a program's wall clock (Debian package)."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return library


@pytest.mark.slow
async def test_the_daemon_survives_the_end_of_summer_time_and_clock_steps(tmp_path: Path) -> None:
    """During an outage nothing expires, nothing is forgotten, and no request storm starts."""
    setting = tmp_path / "offset"
    amplitude = AmplitudeStandIn([CHILD_KEY])
    amplitude.faults.add("503")

    def show(at_s: float) -> None:
        setting.write_text(f"{at_s - SystemClock().now_ms() / 1000:+f}\n")

    async with running(amplitude.app()) as url:
        relay = fast_relay(
            tmp_path, url, DELIVERY__BACKOFF_BASE_S="0.2", DELIVERY__BACKOFF_CAP_S="0.5"
        )
        relay.env |= {
            "TZ": "Europe/Berlin",
            "LD_PRELOAD": str(_faketime()),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_TIMESTAMP_FILE": str(setting),
        }
        moments_s = [-1.0, DAY_S, -DAY_S, 73 * YEAR_S, 1 - SUMMER_ENDS_S, 60.0]
        show(SUMMER_ENDS_S + moments_s[0])
        began_s = monotonic()
        async with running_daemon(relay) as daemon, open_doors(relay) as doors:
            await daemon.until("relay.ready")
            for number, moment_s in enumerate(moments_s):
                show(SUMMER_ENDS_S + moment_s)
                if number:
                    await daemon.until("clock.leapt", number)
                else:
                    await anyio.sleep(2)  # summer ends
                status, answer = await doors.post(orjson.dumps(event(number)))
                assert (status, answer["accepted"]) == (200, 1)
                assert (await doors.readiness())[0] == 200
            counts = await doors.counts()
            assert (counts.pending, counts.dead) == (len(moments_s), 0)
            tries = len(amplitude.ledger.requests)
            assert tries < (monotonic() - began_s) / 0.05
            amplitude.faults.clear()
            assert (await doors.drained()).delivered == len(moments_s)
            again = orjson.dumps([event(number) for number in range(len(moments_s))])
            assert (await doors.post(again))[1]["duplicate"] == len(moments_s)
            daemon.terminate()
            assert await daemon.ended() == 0
