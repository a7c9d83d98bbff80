"""The composition root: builds every part from the settings, starts and stops them in order.

The order of shutdown is the reverse of indentation: the public door closes, uploads under
way are settled, the admin door closes, the loops end, the outbox's writer ends last.
"""

import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf
from random import Random

import anyio
import structlog
from anyio.abc import TaskStatus

from relay import __version__
from relay.clock import Clock, SystemClock
from relay.daemon.cohort_side import CohortSide, Surroundings, build_cohort_side
from relay.daemon.event_side import EventSide, Outside, build_event_side
from relay.daemon.policies import app_rules, certificates, open_session
from relay.daemon.reload import Reloader, Rereading
from relay.daemon.servers import Access, Running, admin_door, public_door
from relay.delivery.pool import SenderPool
from relay.heartbeat import SLACK_S, Heartbeat
from relay.http.auth import Tokens
from relay.http.failed_auth import FailedAuthThrottle, slowness_for
from relay.http.public.app import PublicDoor
from relay.http.server.body import BodyReader
from relay.http.server.connections import Connections, share_descriptors
from relay.http.server.in_flight import InFlightRequests
from relay.http.server.listener import app_runner, open_door, plain_runner
from relay.ingest.admission import AdmissionControl
from relay.maintenance import OUTBOX, Maintenance
from relay.observability.health import Health
from relay.observability.metrics import Metrics
from relay.outbox.store import lock_folder, open_outbox
from relay.process.limits import descriptor_limit
from relay.process.systemd import Notifier
from relay.reserve import Reserve
from relay.segments.store import open_segments
from relay.settings import Settings

log = structlog.get_logger(__name__)

DRAIN_S = 6.0
"""For uploads under way once the public door is closed."""

REVISION_S = 300.0
"""The writer of the segment table may be silent so long: a revision of a very large segment is
one transaction, on a slow disk too."""

FOLD_S = 300.0
"""So long may housekeeping: a fold waits for many syncs, one after the other."""

RELOAD_PAUSE_S = 0.2
"""Between two readings of the settings: who asks all the time keeps nothing else from its turn."""

STOP_S = 8.0
"""For the doors and the uploads together; closing the database comes on top, and systemd waits
for 10 seconds in all."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a running daemon listens."""

    public_port: int
    admin_port: int


@dataclass(frozen=True, slots=True)
class Supervision:
    """Who is told how the daemon does.

    Attributes:
        notifier: The service manager.
        watchdog_s: How often it wants a sign of life, None if it wants none.
    """

    notifier: Notifier
    watchdog_s: float | None = None


class Daemon:
    """A relay, running.

    Attributes:
        heartbeats: A sign of life of every loop, by name.
    """

    def __init__(
        self,
        settings: Settings,
        supervision: Supervision,
        *,
        rereading: Rereading | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """Make a daemon.

        Raises:
            ConfigError: If a door's certificate cannot be used.
        """
        self._settings = settings
        self._certificates = certificates(settings)
        self._supervision = supervision
        self._rereading = rereading or Rereading.none(settings)
        self._clock = clock or SystemClock()
        self._rng = rng or Random()  # noqa: S311  # jitter
        self._metrics = Metrics()
        self._bodies = BodyReader()
        self._admin_bodies = BodyReader(invites=False)
        self._admin_requests = InFlightRequests()
        self._public_limit, self._admin_limit = share_descriptors(descriptor_limit())
        self._attempts = FailedAuthThrottle(slowness_for(self._public_limit))
        self._ends_s = inf
        self._stop = anyio.Event()
        self._wish = anyio.Event()
        self.heartbeats: dict[str, Heartbeat] = {}

    def stop(self) -> None:
        """Ask the daemon to end in order."""
        self._stop.set()

    def reload(self) -> None:
        """Ask the daemon to read its settings again; one that is to end does not."""
        if not self._stop.is_set():
            self._wish.set()

    async def run(self, *, task_status: TaskStatus[Doors] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is called; report the doors once events are taken.

        Raises:
            StoreError: If the data directory does not serve, now or later.
            DoorBlocked: If a door's address cannot be listened on.
        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            stack.enter_context(lock_folder(settings.data_dir))
            reserve = Reserve(settings.data_dir, settings.outbox.min_free_bytes)
            reserve.prepare_opening()
            outbox = await stack.enter_async_context(
                open_outbox(
                    settings.data_dir,
                    settings.apps,
                    max_events=settings.outbox.max_events,
                    heartbeat=self._heartbeat("outbox"),
                    make_room=reserve.make_room,
                    clock=self._clock,
                )
            )
            segments = await stack.enter_async_context(
                open_segments(
                    settings.data_dir,
                    app_rules(settings),
                    now_ms=self._clock.now_ms(),
                    heartbeat=self._heartbeat("segments", REVISION_S),
                )
            )
            session = await stack.enter_async_context(open_session())
            fresh = await stack.enter_async_context(open_session(keeps_alive=False))
            around = Surroundings(fresh, self._clock, reserve.check_room, self._heartbeat)
            cohorts = build_cohort_side(settings, outbox, segments, around)
            self.heartbeats |= cohorts.heartbeats
            outside = Outside(session, self._metrics.meter, self._clock, self._rng)
            events = await build_event_side(settings, outbox, reserve, outside)
            self.heartbeats |= events.heartbeats
            await self._serve(events, cohorts, task_status)
        log.info("relay.stopped")

    async def _serve(
        self, events: EventSide, cohorts: CohortSide, task_status: TaskStatus[Doors]
    ) -> None:
        settings, outbox = self._settings, events.outbox
        heartbeat = self._heartbeat("admission")
        max_events = settings.outbox.max_events
        admission = AdmissionControl(
            events.reserve, outbox.counters, heartbeat, max_events=max_events
        )
        health = Health(self.heartbeats, admission)
        access = Access({}, {}, Tokens([]), self._attempts)
        access.follow(settings, outbox.counters)
        running = Running(events, cohorts, admission, health, self._metrics, self._clock, access)
        public = public_door(settings, running, self._bodies)
        admin = admin_door(running, self._admin_bodies, self._admin_requests)
        notifier = self._supervision.notifier
        reloader = Reloader(settings, self._rereading, running, self._certificates, notifier)
        async with anyio.create_task_group() as services:
            await services.start(admission.run, name="admission")
            heartbeat = self._heartbeat("housekeeping", FOLD_S)
            maintenance = Maintenance(outbox.retention, self._clock, heartbeat, OUTBOX)
            await services.start(maintenance.run, name="housekeeping")
            await cohorts.start(services)
            services.start_soon(self._watch, health, name="watchdog")
            services.start_soon(self._reload, reloader, name="reloading")
            services.start_soon(self._attempts.run, name="attempts")
            runner = app_runner(admin, Connections(self._admin_limit))
            listen, tls = settings.admin_listen, self._certificates.admin_tls
            settle = self._settle_admin
            async with open_door(runner, listen, tls=tls, settle=settle) as admin_port:
                await self._deliver(events.deliveries, public, admin_port, admission, task_status)
            await cohorts.feed.flush()
            services.cancel_scope.cancel()

    async def _deliver(
        self,
        deliveries: Mapping[str, SenderPool],
        public: PublicDoor,
        admin_port: int,
        admission: AdmissionControl,
        task_status: TaskStatus[Doors],
    ) -> None:
        """Deliver, and take events in, until told to stop; then settle what is under way."""
        async with anyio.create_task_group() as delivering:
            for app, delivery in deliveries.items():
                await delivering.start(delivery.run, name=f"delivery of {app}")
            listen, tls = self._settings.listen, self._certificates.public_tls
            runner = plain_runner(public.answer, Connections(self._public_limit))
            async with open_door(runner, listen, tls=tls, settle=public.settle) as public_port:
                self._report_ready(Doors(public_port, admin_port), task_status)
                await self._stop.wait()
                log.info("relay.stopping")
                self._supervision.notifier.stopping()
                admission.is_stopping = True
                self._admin_bodies.stop()
                self._attempts.stop()
                self._ends_s = anyio.current_time() + STOP_S
                for delivery in deliveries.values():
                    delivery.drain()
            delivering.cancel_scope.deadline = min(anyio.current_time() + DRAIN_S, self._ends_s)

    async def _settle_admin(self) -> None:
        """Wait for the admin door's requests, as long as there is time for them."""
        with anyio.CancelScope(deadline=self._ends_s):
            await self._admin_requests.settle()

    def _report_ready(self, doors: Doors, task_status: TaskStatus[Doors]) -> None:
        settings = self._settings
        log.info(
            "relay.ready",
            version=__version__,
            apps=sorted(settings.apps),
            public_port=doors.public_port,
            admin_port=doors.admin_port,
        )
        self._supervision.notifier.ready(f"{len(settings.apps)} apps, port {doors.public_port}")
        task_status.started(doors)

    def _heartbeat(self, name: str, slack_s: float = SLACK_S) -> Heartbeat:
        heartbeat = self.heartbeats[name] = Heartbeat(self._clock, slack_s)
        return heartbeat

    async def _reload(self, reloader: Reloader) -> None:
        """Read the settings again whenever somebody asked for it."""
        while True:
            await self._wish.wait()
            self._wish = anyio.Event()
            await reloader.reload()
            await anyio.sleep(RELOAD_PAUSE_S)

    async def _watch(self, health: Health) -> None:
        """Tell the service manager that every loop makes progress, as long as it is so."""
        if self._supervision.watchdog_s is None:
            return
        while True:
            if health.live().is_ok:
                self._supervision.notifier.watchdog()
            await anyio.sleep(self._supervision.watchdog_s)


async def reload_on_signal(reload: Callable[[], None]) -> None:
    """Call `reload` at every SIGHUP; afterwards the process is deaf to it."""
    try:
        with anyio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                reload()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by itself it would end the process


async def stop_on_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at the first SIGTERM or SIGINT; a second one then ends the process at once.

    That is safe: nothing is acknowledged that is not on disk.
    """
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            break
    stop()
