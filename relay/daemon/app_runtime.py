"""Everything of one app: built from its settings once, reconfigured by every reload.

An app has three ways: its requests come in at the public door, its events go out through its
delivery, its cohorts come in through its poller and its directory sync. Apps share the stores,
the clients and the clock, and otherwise know nothing of each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import aiohttp
from anyio.abc import TaskGroup

from relay.amplitude.cohorts_api import CohortsApi
from relay.amplitude.events_api import EventsApi
from relay.clock import Clock
from relay.cohorts.poller import Poller
from relay.daemon.policies import (
    cohorts_target,
    delivery_setup,
    download_policy,
    event_source,
    export_target,
    plain,
    poll_policy,
    sync_policy,
    upload_target,
)
from relay.database.ballast import BallastFile
from relay.delivery.policy import DeliveryMeter
from relay.delivery.pool import SenderPool
from relay.directory.importer import Importer
from relay.directory.sync import DirectorySync, SyncedApp
from relay.heartbeat import Heartbeat
from relay.http.auth import Tokens
from relay.onesignal.export_api import ExportApi
from relay.outbox.counters import AppState
from relay.outbox.store import Outbox
from relay.segments.store import Segments
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What all apps of a process share.

    Attributes:
        outbox: Where events wait.
        segments: The segment table.
        ballast: Space set aside for a full disk.
        importer: Takes over export files of subscriptions.
        uploads: The client session of deliveries.
        exports: The client session of everything else; it never repeats a request.
        meter: Makes the upload meter of the app of that name.
        clock: The time.
        rng: Jitter.
    """

    outbox: Outbox
    segments: Segments
    ballast: BallastFile
    importer: Importer
    uploads: aiohttp.ClientSession
    exports: aiohttp.ClientSession
    meter: Callable[[str], DeliveryMeter]
    clock: Clock
    rng: Random


class AppRuntime:
    """One app of a running daemon.

    Attributes:
        source: The app as ingest sees it.
        tokens: What its webhooks' callers present.
        upload_keys: What SDKs that upload to its project present.
        delivery: Carries its events to Amplitude.
        poller: Keeps its cohorts current.
        sync: Keeps its directory current.
    """

    def __init__(self, name: str, settings: Settings, shared: SharedParts, state: AppState) -> None:
        """Build an app.

        Args:
            name: The app's name in the settings.
            settings: All of them.
            shared: What it shares with the others.
            state: What the outbox knows of it.
        """
        self._name = name
        self._state = state
        self._check_room = shared.ballast.check_room
        self.tokens = Tokens([])
        self.upload_keys = Tokens([])
        self._events_api = EventsApi(
            shared.uploads, upload_target(settings.apps[name], settings.delivery), shared.clock
        )
        self.delivery = self._build_delivery(settings, shared)
        self.poller = self._build_poller(settings, shared)
        self.sync = self._build_sync(settings, shared)
        self._configure_access(settings)

    @property
    def heartbeats(self) -> dict[str, Heartbeat]:
        """The heartbeats of its loops, by name."""
        return {
            f"poller.{self._name}": self.poller.heartbeat,
            f"directory.{self._name}": self.sync.heartbeat,
            **{
                f"sender.{self._name}.{number}": heartbeat
                for number, heartbeat in enumerate(self.delivery.heartbeats, start=1)
            },
        }

    async def start_cohorts(self, group: TaskGroup) -> None:
        """Start the loops that bring cohorts and the directory in."""
        await group.start(self.poller.run, name=f"poller of {self._name}")
        await group.start(self.sync.run, name=f"directory sync of {self._name}")

    async def start_delivery(self, group: TaskGroup) -> None:
        """Start the senders."""
        await group.start(self.delivery.run, name=f"delivery of {self._name}")

    def reconfigure(self, settings: Settings) -> None:
        """Apply new settings; nothing here can fail.

        What takes a restart is equal in the new settings (`relay.settings.reload.merge`).
        """
        self._configure_access(settings)
        self._events_api.target = upload_target(settings.apps[self._name], settings.delivery)
        self.delivery.configure(
            delivery_setup(self._state, settings.delivery, self._events_api.overhead_bytes)
        )
        self.poller.configure(
            poll_policy(self._name, settings), download_policy(settings, self._check_room)
        )
        self.sync.configure(sync_policy(self._name, settings))

    def _configure_access(self, settings: Settings) -> None:
        app = settings.apps[self._name]
        self.source = event_source(self._name, self._state.no, app)
        self.tokens.renew(map(plain, app.webhook_tokens))
        self.upload_keys.renew([plain(app.amplitude_api_key)])

    def _build_delivery(self, settings: Settings, shared: SharedParts) -> SenderPool:
        api = self._events_api
        delivery = SenderPool(
            delivery_setup(self._state, settings.delivery, api.overhead_bytes),
            shared.outbox.claims,
            api,
            shared.meter(self._name),
            shared.clock,
            shared.rng,
        )
        shared.outbox.writer.listen(self._state.no, delivery.dispatcher.arrived)
        return delivery

    def _build_poller(self, settings: Settings, shared: SharedParts) -> Poller:
        target = cohorts_target(settings.apps[self._name])
        return Poller(
            shared.segments.cohorts.number(self._name),
            CohortsApi(shared.exports, target, shared.clock),
            shared.segments,
            poll_policy(self._name, settings),
            download_policy(settings, self._check_room),
            shared.clock,
        )

    def _build_sync(self, settings: Settings, shared: SharedParts) -> DirectorySync:
        api = ExportApi(shared.exports, export_target(settings.apps[self._name]))
        app = SyncedApp(self._name, shared.segments.cohorts.number(self._name), api)
        policy = sync_policy(self._name, settings)
        return DirectorySync(app, shared.importer, shared.segments.directory, policy, shared.clock)
