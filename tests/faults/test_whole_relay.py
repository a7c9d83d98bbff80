"""A whole relay survives every fault of the other side, one after another, without a restart."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import anyio
import orjson
import psutil
import pytest

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from tests.faults.connection_faults import FAULTS
from tests.support.chaos import chaos
from tests.support.cohort_relays import SECRET_KEY, World, world
from tests.support.command_line import API_KEY as KEY_OF_CHILD
from tests.support.daemons import DaemonProcess, Doors, fast_relay, open_doors, running_daemon
from tests.support.relays import (
    API_KEY,
    DEADLINE_S,
    app_environment,
    event,
    insert_id,
    running_relay,
)

pytestmark = pytest.mark.slow

EVENTS = 4
ACKNOWLEDGED_S = 2.0
"""For a response of the webhook on a machine that is busy with other things."""

WAITING = 10_000
STORM_S = 4.0
STORM_REQUESTS = 40
STORM_CPU = 0.35
FLAT_BYTES = 40 << 20
MEMBERS = "SELECT external_id FROM segment_members"


async def test_a_relay_survives_every_fault_in_turn(tmp_path: Path) -> None:
    """Each fault stops delivery with a reason, none stops the webhook, and all events arrive.

    A sender that stayed stuck, or a connection that stayed spoilt, would be missed by the next.
    """
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url, chaos(url) as proxy:
        environment = app_environment("shop", str(proxy.url).rstrip("/"))
        async with running_relay(tmp_path, environment) as relay:
            for place, (name, fault) in enumerate(FAULTS.items()):
                proxy.set(fault)
                began_s = monotonic()
                numbers = range(place * EVENTS, (place + 1) * EVENTS)
                assert (await relay.post([event(number) for number in numbers])).status == 200
                assert monotonic() - began_s < ACKNOWLEDGED_S, name
                status = await relay.until(lambda found: found["delivery"] == "backing_off")
                assert status["last_error"], name
                for secret in (API_KEY, "user-", "http:", "httpapi"):
                    assert secret not in status["last_error"]
                proxy.set(None)
                status = await relay.settled()
                assert (status["delivered"], status["dead"]) == ((place + 1) * EVENTS, 0), name
    ids = amplitude.ledger.account(API_KEY).insert_ids
    assert set(ids) == {insert_id(number) for number in range(len(FAULTS) * EVENTS)}


async def _pile_up(doors: Doors, devices: int) -> None:
    """Let events of this many devices wait."""
    for first in range(0, WAITING, 500):
        bodies = [
            event(number, subscription_id=f"device-{number % devices}")
            for number in range(first, first + 500)
        ]
        status, counts = await doors.post(orjson.dumps(bodies))
        assert (status, counts["accepted"]) == (200, 500)


@pytest.mark.parametrize("retry_after", [None, 1], ids=["without a word", "Retry-After: 1"])
async def test_a_storm_of_429_costs_next_to_nothing(
    tmp_path: Path, retry_after: int | None
) -> None:
    """No busy loop, few requests, flat memory; afterwards everything arrives."""
    amplitude = AmplitudeStandIn([KEY_OF_CHILD])
    async with running(amplitude.app()) as url:
        slow = {"DELIVERY__BACKOFF_BASE_S": "0.5", "DELIVERY__BACKOFF_CAP_S": "5"}
        relay = fast_relay(tmp_path, url, DELIVERY__MAX_BATCH_EVENTS="1000", **slow)
        async with running_daemon(relay) as daemon, open_doors(relay) as doors:
            await daemon.until("relay.ready")
            amplitude.faults.add("429", retry_after=retry_after)
            await _pile_up(doors, WAITING)
            await daemon.until("batch.uploaded", 1)
            requests = len(amplitude.ledger.requests)
            cpu, grown_bytes = await _watch(daemon, STORM_S)
            assert len(amplitude.ledger.requests) - requests < STORM_REQUESTS
            assert cpu < STORM_CPU
            assert grown_bytes < FLAT_BYTES
            amplitude.faults.clear()
            assert (await doors.drained()).delivered == WAITING
    assert len(set(amplitude.ledger.account(KEY_OF_CHILD).insert_ids)) == WAITING


async def test_throttled_devices_delay_no_others_and_cost_little(tmp_path: Path) -> None:
    """A fifth of the devices stays on hold; the rest arrives, and finally everything does."""
    amplitude = AmplitudeStandIn([KEY_OF_CHILD])
    throttled = {f"device-{number}": 31 for number in range(0, 500, 5)}
    amplitude.conditions.throttled_devices = throttled
    async with running(amplitude.app()) as url:
        relay = fast_relay(
            tmp_path, url, DELIVERY__MAX_BATCH_EVENTS="1000", DELIVERY__THROTTLE_HOLD_S="2"
        )
        async with running_daemon(relay) as daemon, open_doors(relay) as doors:
            await daemon.until("relay.ready")
            await _pile_up(doors, 500)
            with anyio.fail_after(60):
                while (await doors.counts()).delivered < WAITING * 4 // 5:
                    await anyio.sleep(0.05)
            requests = len(amplitude.ledger.requests)
            cpu, grown_bytes = await _watch(daemon, STORM_S)
            assert len(amplitude.ledger.requests) - requests < STORM_REQUESTS
            assert cpu < STORM_CPU
            assert grown_bytes < FLAT_BYTES
            counts = await doors.counts()
            assert (counts.pending, counts.dead) == (WAITING // 5, 0)
            amplitude.conditions.throttled_devices = {}
            assert (await doors.drained()).delivered == WAITING


async def _watch(daemon: DaemonProcess, seconds: float) -> tuple[float, int]:
    """Return the daemon's share of a processor over some time, and by how much it grew."""
    seen = psutil.Process(daemon.process.pid)
    before, before_bytes = seen.cpu_times(), seen.memory_info().rss
    await anyio.sleep(seconds)
    after = seen.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    return used_s / seconds, seen.memory_info().rss - before_bytes


LATE = {
    "drips its answer", "drips spaces for ever", "takes the request in drips", "accepts and hangs",
    "reads and says nothing", "says 100 Continue for ever",
}  # fmt: skip
"""What only the time of a request ends: a minute, for a question about cohorts."""


async def test_a_segment_survives_every_quick_fault_in_turn(tmp_path: Path) -> None:
    """It keeps its members during each fault and follows as soon as it is over."""
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    cohorts.put(StandInCohort(id="buyers", user_ids=["u0"]))
    async with running(cohorts.app()) as url, chaos(url) as proxy:
        changes = {"RELAY_APPS__SHOP__AMPLITUDE_COHORTS_URL": str(proxy.url).rstrip("/")}
        async with world(tmp_path, changes, cohorts=cohorts) as it:
            await it.know(**{f"u{place}": [True] for place in range(len(FAULTS) + 1)})
            wanted = ["u0"]
            await _members(it, wanted)
            for name in (name for name in FAULTS if name not in LATE):
                proxy.set(FAULTS[name])
                wanted.append(f"u{len(wanted)}")
                cohorts.change("buyers", add=wanted[-1:])
                with anyio.fail_after(DEADLINE_S):
                    while (error := (await it.segments())["last_error"]) is None:
                        assert len(it.look(MEMBERS)) in (len(wanted) - 1, len(wanted)), name
                        await anyio.sleep(0.02)
                for secret in (API_KEY, SECRET_KEY, "http:"):
                    assert secret not in error
                proxy.set(None)
                await _members(it, wanted)
    used = sum(call.operation == "request" for call in cohorts.requests)
    assert used <= 2 * len(wanted)  # an export is requested again only if its id never arrived


async def _members(it: World, wanted: Sequence[str]) -> None:
    await it.until(MEMBERS, lambda rows: sorted(name for (name,) in rows) == sorted(wanted))
