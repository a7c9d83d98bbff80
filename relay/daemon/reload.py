"""New settings for a running daemon: read again when asked to, taken whole or not at all."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from anyio import to_thread

from relay.daemon.policies import (
    app_rules,
    delivery_setup,
    download_policy,
    guard_policy,
    poll_policy,
    sync_policy,
    upload_target,
)
from relay.daemon.servers import Running
from relay.errors import ConfigError, StoreFull
from relay.http.server.tls import Certificates
from relay.process.systemd import Notifier
from relay.settings import Settings
from relay.settings.reload import Change, merge

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rereading:
    """Where settings are read again.

    Attributes:
        read: Returns them as they are now, or raises `ConfigError`.
        adopt: Lets what is outside of the daemon, its log, follow new ones.
    """

    read: Callable[[], Settings]
    adopt: Callable[[Settings], None]

    @classmethod
    def none(cls, settings: Settings) -> "Rereading":
        """Return a place where settings never change."""
        return cls(lambda: settings, lambda _: None)


class Reloader:
    """Brings new settings into a running daemon."""

    def __init__(
        self,
        settings: Settings,
        rereading: Rereading,
        running: Running,
        certificates: Certificates,
        notifier: Notifier,
    ) -> None:
        self._settings = settings
        self._rereading = rereading
        self._running = running
        self._certificates = certificates
        self._notifier = notifier

    async def reload(self) -> None:
        """Read settings and certificates again; whatever is wrong with them leaves all as it was.

        Raises:
            StoreFailed: If the disk failed; the process must end.
        """
        self._notifier.reloading()
        try:
            wanted = await to_thread.run_sync(self._rereading.read, abandon_on_cancel=True)
            change = merge(self._settings, wanted)
            self._certificates.check()
            await self._follow_rules(change)
            self._certificates.renew()
        except (ConfigError, StoreFull) as error:
            mistakes = error.mistakes if isinstance(error, ConfigError) else [str(error)]
            log.error("settings.refused", mistakes=mistakes)  # noqa: TRY400  # no defect of ours
            self._notifier.ready("new settings were refused, see the log; the old ones hold")
            return
        self._rereading.adopt(change.settings)
        adjust(self._running, change.settings)
        self._settings = change.settings
        log.info("settings.reloaded", taken=change.taken, waiting_for_restart=change.waiting)
        self._notifier.ready(f"settings reloaded, {len(change.waiting)} wait for a restart")

    async def _follow_rules(self, change: Change) -> None:
        """Let the segment table follow its rules, which stand in it."""
        rules = app_rules(change.settings)
        if rules != app_rules(self._settings):
            catalog, clock = self._running.cohorts.segments.catalog, self._running.clock
            await catalog.follow(rules, clock.now_ms())


def adjust(running: Running, settings: Settings) -> None:
    """Let every part of a running daemon go on as the settings say; nothing here can fail."""
    running.access.follow(settings, running.events.outbox.ledger)
    _adjust_events(running, settings)
    _adjust_cohorts(running, settings)


def _adjust_events(running: Running, settings: Settings) -> None:
    events, limits = running.events, settings.outbox
    running.admission.max_events = events.outbox.intakes.max_events = limits.max_events
    events.reserve.min_free_bytes = limits.min_free_bytes
    for app, delivery in events.deliveries.items():
        api = events.uploads[app]
        api.target = upload_target(settings.apps[app], settings.delivery)
        no = events.outbox.ledger.number(app)
        delivery.adjust(delivery_setup(app, no, settings.delivery, api.overhead_bytes))


def _adjust_cohorts(running: Running, settings: Settings) -> None:
    cohorts = running.cohorts
    cohorts.reception.guard = guard_policy(settings)
    downloading = download_policy(settings, running.events.reserve.check_room)
    for app, own in settings.apps.items():
        cohorts.pollers[app].adjust(poll_policy(app, own, settings), downloading)
        cohorts.syncs[app].adjust(sync_policy(app, own, settings))
