"""The composition root: builds every part from the settings, starts and stops them in order.

The order of shutdown is the reverse of indentation: the public door closes, uploads under
way are settled, the admin door closes, the loops end, the outbox's writer ends last.
"""

import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

import aiohttp
import anyio
import structlog
from anyio.abc import TaskStatus
from pydantic import SecretStr

from relay import __version__
from relay.admission import Admission
from relay.amplitude.events_api import EventsApi, UploadTarget
from relay.clock import Clock, SystemClock
from relay.delivery.backoff import BackoffPolicy
from relay.delivery.batching import BatchLimits
from relay.delivery.delivery import Delivery, DeliverySetup
from relay.delivery.sender import DeliveryPolicy
from relay.doors.admin.app import AdminParts, admin_app
from relay.doors.bodies import Bodies
from relay.doors.door import app_runner, open_door, plain_runner
from relay.doors.events_hook import EventsHook, Hook
from relay.doors.health_routes import HealthAnswers
from relay.doors.public import PublicDoor
from relay.doors.tokens import Tokens
from relay.events.mapping import MappingPolicy
from relay.health import Health
from relay.housekeeping import Housekeeper
from relay.metrics import Metrics
from relay.outbox.ledger import Ledger
from relay.outbox.outbox import Outbox, lock_folder, open_outbox
from relay.pulse import Pulse
from relay.reception import Reception, Source
from relay.reserve import Reserve
from relay.settings import AppSettings, Settings
from relay.status import Status
from relay.systemd import Notifier

log = structlog.get_logger(__name__)

DRAIN_S = 6.0
"""For uploads under way when the daemon is asked to stop."""

LIBRARY = f"relay/{__version__}"


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
        pulses: A sign of life of every loop, by name.
    """

    def __init__(
        self,
        settings: Settings,
        supervision: Supervision,
        *,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        self._settings = settings
        self._supervision = supervision
        self._clock = clock or SystemClock()
        self._rng = rng or Random()  # noqa: S311  # jitter
        self._metrics = Metrics()
        self._bodies = Bodies()
        self._stop = anyio.Event()
        self.pulses: dict[str, Pulse] = {}

    def stop(self) -> None:
        """Ask the daemon to end in order."""
        self._stop.set()

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
                    pulse=self._pulse("outbox"),
                    make_room=reserve.make_room,
                )
            )
            session = await stack.enter_async_context(_open_session())
            await self._serve(outbox, reserve, session, task_status)
        log.info("relay.stopped")

    async def _serve(
        self,
        outbox: Outbox,
        reserve: Reserve,
        session: aiohttp.ClientSession,
        task_status: TaskStatus[Doors],
    ) -> None:
        settings = self._settings
        admission = Admission(
            reserve,
            outbox.ledger,
            self._pulse("admission"),
            max_events=settings.outbox.max_events,
        )
        deliveries = await self._deliveries(outbox, session)
        health = Health(self.pulses, admission)
        reception = Reception(outbox.intakes, outbox.messages, self._clock)
        sources = event_sources(settings, outbox.ledger)
        hook = EventsHook(_hooks(settings, sources), reception, admission, self._bodies)
        public = PublicDoor(hook, HealthAnswers(health), self._metrics, self._clock)
        admin = admin_app(
            AdminParts(
                outbox=outbox,
                deliveries=deliveries,
                status=Status(outbox.ledger, deliveries, self._clock),
                reception=reception,
                sources=sources,
                health=health,
                metrics=self._metrics,
                clock=self._clock,
            ),
            token=_secret(settings.admin_token),
        )
        async with anyio.create_task_group() as services:
            await services.start(admission.run, name="admission")
            housekeeper = Housekeeper(
                outbox.retention, self._clock, self._pulse("housekeeping"), reserve
            )
            await services.start(housekeeper.run, name="housekeeping")
            services.start_soon(self._watch, health, name="watchdog")
            async with open_door(app_runner(admin), settings.admin_listen) as admin_port:
                await self._deliver(deliveries, public, admin_port, admission, task_status)
            services.cancel_scope.cancel()

    async def _deliver(
        self,
        deliveries: Mapping[str, Delivery],
        public: PublicDoor,
        admin_port: int,
        admission: Admission,
        task_status: TaskStatus[Doors],
    ) -> None:
        """Deliver, and take events in, until told to stop; then settle what is under way."""
        async with anyio.create_task_group() as delivering:
            for app, delivery in deliveries.items():
                await delivering.start(delivery.run, name=f"delivery of {app}")
            listen = self._settings.listen
            runner = plain_runner(public.answer)
            async with open_door(runner, listen, on_close=self._bodies.stop) as public_port:
                self._report_ready(Doors(public_port, admin_port), task_status)
                await self._stop.wait()
                log.info("relay.stopping")
                self._supervision.notifier.stopping()
                admission.is_stopping = True
                for delivery in deliveries.values():
                    delivery.drain()
            delivering.cancel_scope.deadline = anyio.current_time() + DRAIN_S

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

    def _pulse(self, name: str) -> Pulse:
        pulse = self.pulses[name] = Pulse(self._clock)
        return pulse

    async def _deliveries(
        self, outbox: Outbox, session: aiohttp.ClientSession
    ) -> dict[str, Delivery]:
        states = await outbox.ledger.states()
        deliveries = {}
        for app, settings in self._settings.apps.items():
            api = EventsApi(session, self._target(settings))
            setup = self._setup(app, outbox, api, is_paused=states[app].is_paused)
            delivery = Delivery(
                setup, outbox.claims, api, self._metrics.meter(app), self._clock, self._rng
            )
            outbox.intakes.listen(setup.no, delivery.dispatcher.arrived)
            for number, pulse in enumerate(delivery.pulses, start=1):
                self.pulses[f"sender.{app}.{number}"] = pulse
            deliveries[app] = delivery
        return deliveries

    def _target(self, app: AppSettings) -> UploadTarget:
        return UploadTarget(
            url=app.amplitude_ingest_url,
            upload=app.amplitude_upload,
            api_key=app.amplitude_api_key.get_secret_value(),
            timeout_s=self._settings.delivery.request_timeout_s,
            gzip=self._settings.delivery.gzip,
        )

    def _setup(self, app: str, outbox: Outbox, api: EventsApi, *, is_paused: bool) -> DeliverySetup:
        settings = self._settings.delivery
        limits = BatchLimits(
            settings.max_batch_events, settings.max_batch_bytes, api.overhead_bytes
        )
        policy = DeliveryPolicy(
            backoff=BackoffPolicy(settings.backoff_base_s, settings.backoff_cap_s),
            hold_s=settings.throttle_hold_s,
            max_age_ms=round(settings.max_age_s * 1000),
            timeout_s=settings.request_timeout_s,
        )
        return DeliverySetup(
            app=app,
            no=outbox.ledger.number(app),
            senders=settings.senders,
            limits=limits,
            linger_s=settings.linger_s,
            halt_probe_s=settings.halt_probe_s,
            policy=policy,
            is_paused=is_paused,
        )

    async def _watch(self, health: Health) -> None:
        """Tell the service manager that every loop makes progress, as long as it is so."""
        if self._supervision.watchdog_s is None:
            return
        while True:
            if health.live().is_ok:
                self._supervision.notifier.watchdog()
            await anyio.sleep(self._supervision.watchdog_s)


def event_sources(settings: Settings, ledger: Ledger) -> dict[str, Source]:
    """Return every configured app as its events hook sees it."""
    return {
        app: Source(
            app,
            ledger.number(app),
            MappingPolicy(
                app_id=own.onesignal_app_id,
                kinds=own.events,
                name_set=own.event_names,
                anonymous=own.anonymous,
                library=LIBRARY,
            ),
        )
        for app, own in settings.apps.items()
    }


def _hooks(settings: Settings, sources: Mapping[str, Source]) -> Mapping[str, Hook]:
    hooks = {}
    for app, source in sources.items():
        secrets = settings.apps[app].webhook_tokens
        hooks[app] = Hook(Tokens(token.get_secret_value() for token in secrets), source)
    return hooks


def _open_session() -> aiohttp.ClientSession:
    """Return the client session of every app; it never makes one app wait for another."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": LIBRARY},
    )


def _secret(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def stop_on_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at the first SIGTERM or SIGINT; a second one then ends the process at once.

    That is safe: nothing is acknowledged that is not on disk.
    """
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            break
    stop()
