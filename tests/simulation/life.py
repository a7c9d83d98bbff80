"""One process of relay, from its start to its end: put together as the daemon does it."""

from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from relay.database.database import Database
from relay.delivery.batching import BatchLimits
from relay.delivery.circuit_breaker import BackoffPolicy
from relay.delivery.policy import DeliveryPolicy
from relay.delivery.pool import DeliverySetup, SenderPool
from relay.heartbeat import Heartbeat
from relay.maintenance import Maintenance, MaintenancePolicy
from relay.outbox.counters import AppState
from relay.outbox.retention import FlushPolicy
from relay.outbox.store import Outbox, begin_outbox
from tests.simulation.alterations import Alteration
from tests.simulation.app import App
from tests.simulation.cable import Cable
from tests.simulation.clock import WallClock
from tests.simulation.conduct import MAX_BATCH_BYTES, OVERHEAD_BYTES, Conduct
from tests.simulation.disk import Disk
from tests.simulation.oracle import Oracle
from tests.simulation.people import People
from tests.simulation.scenario import Scenario

DRAIN_S = 6.0
BACKOFF_BASE_S = 1.0
TIDY = MaintenancePolicy(tick_s=6.0)
FLUSH = FlushPolicy(keys=30, after_s=6.0)
"""So that a run of a minute sees many flushes and prunes."""


@dataclass(frozen=True)
class Place:
    """Where processes of relay live: what outlasts them.

    Attributes:
        scenario: The run.
        disk: Its database.
        clock: Its clocks.
        apps: What stands around, by app.
        people: Who acts, by app.
        oracle: Who judges.
        alteration: What is wrong with this relay; nothing, as a rule.
    """

    scenario: Scenario
    disk: Disk
    clock: WallClock
    apps: Mapping[str, App]
    people: Mapping[str, People]
    oracle: Oracle
    alteration: Alteration


class Life:
    """One process.

    Attributes:
        ready: Set once it takes events.
        outbox: Its outbox, once open.
        deliveries: What carries each app's events, once it is ready.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stop = anyio.Event()
        self.ready = anyio.Event()
        self.outbox: Outbox | None = None
        self.deliveries: dict[str, SenderPool] = {}

    def stop(self) -> None:
        """Ask it to end in order."""
        self._stop.set()

    async def run(self) -> None:
        """Live until asked to end, or until cancelled, which is a kill.

        Raises:
            ExceptionGroup: Of errors of the store, which end a process.
        """
        place = self._place
        database = Database(
            place.disk.connect("write"),
            place.disk.connect("read"),
            Heartbeat(place.clock),
            place.disk.make_room,
        )
        scenario = place.scenario
        async with begin_outbox(
            database, scenario.apps, max_events=scenario.max_events, clock=place.clock
        ) as opened:
            place.oracle.observe()
            self.outbox = place.alteration.outbox(opened)
            await self._serve(self.outbox, await opened.counters.states())

    async def _serve(self, outbox: Outbox, states: Mapping[str, AppState]) -> None:
        place = self._place
        outbox.retention.flush_policy = FLUSH
        maintenance = Maintenance(outbox.retention, place.clock, Heartbeat(place.clock), TIDY)
        async with anyio.create_task_group() as services:
            await services.start(maintenance.run)
            async with anyio.create_task_group() as delivering:
                for name in place.scenario.apps:
                    delivery = self._delivery(outbox, states[name])
                    self.deliveries[name] = delivery
                    await delivering.start(delivery.run)
                await self._take_in(outbox)
                for delivery in self.deliveries.values():
                    delivery.drain()
                delivering.cancel_scope.deadline = anyio.current_time() + DRAIN_S
            services.cancel_scope.cancel()

    async def _take_in(self, outbox: Outbox) -> None:
        """Let OneSignal and people in until asked to end."""
        place = self._place
        self.ready.set()
        async with anyio.create_task_group() as outside:
            for name, app in place.apps.items():
                outside.start_soon(app.source.run, outbox, place.clock)
                if place.scenario.people:
                    outside.start_soon(place.people[name].act, outbox, self.deliveries[name])
            await self._stop.wait()
            outside.cancel_scope.cancel()

    def _delivery(self, outbox: Outbox, state: AppState) -> SenderPool:
        place, app = self._place, self._place.apps[state.app]
        app.project.help()
        conduct = Conduct(place.scenario, app, place.oracle.blame, place.clock)
        delivery = SenderPool(
            place.alteration.setup(_setup(place.scenario, state)),
            outbox.claims,
            Cable(app.project, place.scenario.timeout_s, conduct),
            _Silence(),
            place.clock,
            place.scenario.rng(f"jitter {state.app} {place.disk.life}"),
        )
        outbox.writer.listen(state.no, delivery.dispatcher.arrived)
        return delivery


class _Silence:
    """Counts no uploads."""

    def uploaded(self, outcome: str, duration_s: float) -> None:
        """Note nothing."""


def _setup(scenario: Scenario, state: AppState) -> DeliverySetup:
    return DeliverySetup(
        app=state.app,
        no=state.no,
        senders=scenario.senders,
        limits=BatchLimits(scenario.max_batch_events, MAX_BATCH_BYTES, OVERHEAD_BYTES),
        linger_s=scenario.linger_s,
        halt_probe_s=scenario.halt_probe_s,
        policy=DeliveryPolicy(
            backoff=BackoffPolicy(BACKOFF_BASE_S, scenario.backoff_cap_s),
            hold_s=scenario.hold_s,
            max_age_ms=round(scenario.max_age_s * 1000),
            timeout_s=scenario.timeout_s,
        ),
        is_paused=state.is_paused,
    )
