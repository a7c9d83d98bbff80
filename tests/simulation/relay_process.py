"""One process of relay from start to end, assembled as the daemon does it."""

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
from tests.simulation.app import App
from tests.simulation.clock import WallClock
from tests.simulation.disk import Disk
from tests.simulation.mutants import Mutant
from tests.simulation.operators import Operators
from tests.simulation.oracle import Oracle
from tests.simulation.scenario import Scenario
from tests.simulation.upload_rules import MAX_BATCH_BYTES, OVERHEAD_BYTES, UploadRules
from tests.simulation.uploader import ProcessUploader

DRAIN_S = 6.0
BACKOFF_BASE_S = 1.0
TIDY = MaintenancePolicy(tick_s=6.0)
FLUSH = FlushPolicy(keys=30, after_s=6.0)
"""Frequent enough for a run of a minute to see many flushes and prunes."""


@dataclass(frozen=True)
class Surroundings:
    """What outlasts the processes of relay.

    Attributes:
        scenario: The run.
        disk: Its database.
        clock: Its clocks.
        apps: What surrounds each app.
        operators: The operators of each app.
        oracle: Judges the run.
        mutant: How this relay is broken; usually not at all.
    """

    scenario: Scenario
    disk: Disk
    clock: WallClock
    apps: Mapping[str, App]
    operators: Mapping[str, Operators]
    oracle: Oracle
    mutant: Mutant


class RelayProcess:
    """One process.

    Attributes:
        ready: Set once it accepts events.
        outbox: Its outbox, once open.
        deliveries: The sender pool of each app, once ready.
    """

    def __init__(self, around: Surroundings) -> None:
        self._surroundings = around
        self._stop = anyio.Event()
        self.ready = anyio.Event()
        self.outbox: Outbox | None = None
        self.deliveries: dict[str, SenderPool] = {}

    def stop(self) -> None:
        """Ask it to stop in order."""
        self._stop.set()

    async def run(self) -> None:
        """Run until asked to stop, or until cancelled, which is a kill.

        Raises:
            ExceptionGroup: Of errors of the store, which end a process.
        """
        around = self._surroundings
        database = Database(
            around.disk.connect("write"),
            around.disk.connect("read"),
            Heartbeat(around.clock),
            around.disk.make_room,
        )
        scenario = around.scenario
        async with begin_outbox(
            database, scenario.apps, max_events=scenario.max_events, clock=around.clock
        ) as opened:
            around.oracle.observe()
            self.outbox = around.mutant.outbox(opened)
            await self._serve(self.outbox, await opened.counters.states())

    async def _serve(self, outbox: Outbox, states: Mapping[str, AppState]) -> None:
        around = self._surroundings
        outbox.retention.flush_policy = FLUSH
        maintenance = Maintenance(outbox.retention, around.clock, Heartbeat(around.clock), TIDY)
        async with anyio.create_task_group() as services:
            await services.start(maintenance.run)
            async with anyio.create_task_group() as delivering:
                for name in around.scenario.apps:
                    delivery = self._delivery(outbox, states[name])
                    self.deliveries[name] = delivery
                    await delivering.start(delivery.run)
                await self._ingest(outbox)
                for delivery in self.deliveries.values():
                    delivery.drain()
                delivering.cancel_scope.deadline = anyio.current_time() + DRAIN_S
            services.cancel_scope.cancel()

    async def _ingest(self, outbox: Outbox) -> None:
        """Let OneSignal and operators act until asked to stop."""
        around = self._surroundings
        self.ready.set()
        async with anyio.create_task_group() as outside:
            for name, app in around.apps.items():
                outside.start_soon(app.source.run, outbox, around.clock)
                if around.scenario.operators:
                    outside.start_soon(around.operators[name].act, outbox, self.deliveries[name])
            await self._stop.wait()
            outside.cancel_scope.cancel()

    def _delivery(self, outbox: Outbox, state: AppState) -> SenderPool:
        around, app = self._surroundings, self._surroundings.apps[state.app]
        app.project.help()
        upload_rules = UploadRules(around.scenario, app, around.oracle.blame, around.clock)
        delivery = SenderPool(
            around.mutant.setup(_setup(around.scenario, state)),
            outbox.claims,
            ProcessUploader(app.project, around.scenario.timeout_s, upload_rules),
            _Silence(),
            around.clock,
            around.scenario.rng(f"jitter {state.app} {around.disk.process_no}"),
        )
        outbox.writer.listen(state.no, delivery.dispatcher.arrived)
        return delivery


class _Silence:
    """Discards upload metrics."""

    def uploaded(self, outcome: str, duration_s: float) -> None:
        """Discard it."""


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
