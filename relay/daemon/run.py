"""The order in which a daemon starts and stops.

Inner blocks close first: the public door closes, uploads under way are
settled, the admin door closes, the loops end, and the outbox's writer ends last.
"""

import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import NamedTuple

import anyio
import structlog
from anyio.abc import TaskStatus

from relay import __version__
from relay.clock import Clock, SystemClock
from relay.daemon.app_runtime import SharedParts
from relay.daemon.policies import LIBRARY, app_rules
from relay.daemon.reload import Reloader, SettingsSource
from relay.daemon.runtime import Runtime
from relay.daemon.servers import Servers
from relay.database.ballast import BallastFile
from relay.directory.importer import Importer
from relay.heartbeat import SLACK_S, Heartbeat
from relay.observability.health import Health
from relay.observability.metrics import Metrics
from relay.outbox.store import lock_folder, open_outbox
from relay.process.systemd import Notifier
from relay.segments.store import open_segments
from relay.settings import Settings
from relay.upstream.client import open_session

log = structlog.get_logger(__name__)

DRAIN_S = 6.0
"""For uploads under way once the public door is closed."""

REVISION_S = 300.0
"""Slack of the segment table's writer: a revision of a very large segment is one transaction, on a
slow disk too."""

RELOAD_PAUSE_S = 0.2
"""Between two reloads, so that a flood of SIGHUPs leaves time for everything else."""

STOP_S = 8.0
"""For the doors and the uploads together; closing the database comes on top, and systemd waits
for 10 seconds in all."""


class Ports(NamedTuple):
    """Where a running daemon listens."""

    public_port: int
    admin_port: int


class Daemon:
    """A relay, running.

    Attributes:
        heartbeats: Of every loop, by name.
    """

    def __init__(
        self,
        settings: Settings,
        notifier: Notifier,
        *,
        source: SettingsSource | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        """Prepare a daemon.

        Args:
            settings: What it is built from.
            notifier: Tells the service manager how it is doing.
            source: Where a reload reads the settings; without it they never change.
            clock: The time; the machine's own by default.
            rng: Jitter.

        Raises:
            ConfigError: If a door's certificate cannot be used.
        """
        self._settings = settings
        self._notifier = notifier
        self._source = source or SettingsSource.none(settings)
        self._clock = clock or SystemClock()
        self._rng = rng or Random()  # noqa: S311  # jitter
        self._metrics = Metrics()
        self._servers = Servers(settings, self._metrics)
        self._stop = anyio.Event()
        self._reload = anyio.Event()
        self.heartbeats: dict[str, Heartbeat] = {}

    def stop(self) -> None:
        """Ask the daemon to end in order."""
        self._stop.set()

    def reload(self) -> None:
        """Ask the daemon to read its settings again; one that is to end does not."""
        if not self._stop.is_set():
            self._reload.set()

    async def run(self, *, task_status: TaskStatus[Ports] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is called; report the ports once events are taken.

        Raises:
            StoreError: If the data directory cannot be used, now or later.
            DoorBlocked: If a door's address cannot be listened on.
        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            stack.enter_context(lock_folder(settings.data_dir))
            shared = await self._open(stack)
            states = await shared.outbox.counters.states()
            runtime = Runtime(settings, shared, states, self.heartbeats)
            await self._serve(runtime, task_status)
        log.info("relay.stopped")

    async def _open(self, stack: AsyncExitStack) -> SharedParts:
        """Open the stores and the client sessions; the stack closes them in reverse order."""
        settings = self._settings
        ballast = BallastFile(settings.data_dir, settings.outbox.min_free_bytes)
        # A disk that is full at the start would not even let the outbox open its log.
        ballast.prepare_opening()
        outbox = await stack.enter_async_context(
            open_outbox(
                settings.data_dir,
                settings.apps,
                max_events=settings.outbox.max_events,
                heartbeat=self._heartbeat("outbox"),
                make_room=ballast.make_room,
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
        return SharedParts(
            outbox=outbox,
            segments=segments,
            ballast=ballast,
            importer=Importer(segments, settings.data_dir, self._clock, ballast.check_room),
            uploads=await stack.enter_async_context(open_session(LIBRARY)),
            exports=await stack.enter_async_context(open_session(LIBRARY, keeps_alive=False)),
            meter=self._metrics.meter,
            clock=self._clock,
            rng=self._rng,
        )

    async def _serve(self, runtime: Runtime, task_status: TaskStatus[Ports]) -> None:
        async with anyio.create_task_group() as services:
            await runtime.start(services)
            services.start_soon(self._watch, runtime.health, name="watchdog")
            services.start_soon(self._reload_on_request, runtime, name="reloading")
            self._servers.start(services)
            async with self._servers.open_admin(runtime) as admin_port:
                await self._deliver(runtime, admin_port, task_status)
            # The last requests may have left something to write.
            await runtime.flush()
            services.cancel_scope.cancel()

    async def _deliver(
        self, runtime: Runtime, admin_port: int, task_status: TaskStatus[Ports]
    ) -> None:
        """Deliver, and take events in, until told to stop; then settle what is under way."""
        async with anyio.create_task_group() as deliveries:
            for app in runtime.apps.values():
                await app.start_delivery(deliveries)
            async with self._servers.open_public(runtime) as public_port:
                self._report_ready(Ports(public_port, admin_port), task_status)
                await self._stop.wait()
                log.info("relay.stopping")
                self._notifier.stopping()
                runtime.admission.is_stopping = True
                ends_s = anyio.current_time() + STOP_S
                self._servers.stop(ends_s)
                for app in runtime.apps.values():
                    app.delivery.drain()
            deliveries.cancel_scope.deadline = min(anyio.current_time() + DRAIN_S, ends_s)

    def _report_ready(self, ports: Ports, task_status: TaskStatus[Ports]) -> None:
        apps = sorted(self._settings.apps)
        log.info("relay.ready", version=__version__, apps=apps, **ports._asdict())
        self._notifier.ready(f"{len(apps)} apps, port {ports.public_port}")
        task_status.started(ports)

    def _heartbeat(self, name: str, slack_s: float = SLACK_S) -> Heartbeat:
        heartbeat = self.heartbeats[name] = Heartbeat(self._clock, slack_s)
        return heartbeat

    async def _reload_on_request(self, runtime: Runtime) -> None:
        reloader = Reloader(self._settings, self._source, runtime, self._servers, self._notifier)
        while True:
            await self._reload.wait()
            self._reload = anyio.Event()
            await reloader.reload()
            await anyio.sleep(RELOAD_PAUSE_S)

    async def _watch(self, health: Health) -> None:
        """Reset the service manager's watchdog while every loop makes progress."""
        if self._notifier.watchdog_s is None:
            return
        while True:
            if health.live().is_ok:
                self._notifier.watchdog()
            await anyio.sleep(self._notifier.watchdog_s)


async def reload_on_signal(reload: Callable[[], None]) -> None:
    """Call `reload` at every SIGHUP; afterwards the process ignores it."""
    try:
        with anyio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                reload()
    finally:
        # Python restores the default, which would kill a daemon that is closing its database.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def stop_on_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at the first SIGTERM or SIGINT; a second one then ends the process at once.

    That is safe: nothing is acknowledged that is not on disk.
    """
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            break
    stop()
