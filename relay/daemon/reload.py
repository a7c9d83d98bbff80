"""New settings for a running daemon: read again on request, applied whole or not at all.

Which settings can change is said on their own fields: `relay.settings.reload` keeps the old value
of one that takes a restart. What each part does with a new value is here and in
`AppRuntime.reconfigure`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from anyio import to_thread

from relay.daemon.policies import app_rules, guard_policy
from relay.daemon.runtime import Runtime
from relay.daemon.servers import Servers
from relay.errors import ConfigError, StoreFull
from relay.process.systemd import Notifier
from relay.settings import Settings
from relay.settings.reload import merge

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """Where settings are read again.

    Attributes:
        read: Returns them as they are now, or raises `ConfigError`.
        adopt: Applies new ones to what is outside of the daemon: its log.
    """

    read: Callable[[], Settings]
    adopt: Callable[[Settings], None]

    @classmethod
    def none(cls, settings: Settings) -> "SettingsSource":
        """Return a source whose settings never change."""
        return cls(lambda: settings, lambda _: None)


class Reloader:
    """Brings new settings into a running daemon."""

    def __init__(
        self,
        settings: Settings,
        source: SettingsSource,
        runtime: Runtime,
        servers: Servers,
        notifier: Notifier,
    ) -> None:
        self._settings = settings
        self._source = source
        self._runtime = runtime
        self._servers = servers
        self._notifier = notifier

    async def reload(self) -> None:
        """Read settings and certificates again; if any is wrong, the old ones stay.

        Raises:
            StoreFailed: If the disk failed; the process must end.
        """
        self._notifier.reloading()
        certificates = self._servers.certificates
        try:
            wanted = await to_thread.run_sync(self._source.read, abandon_on_cancel=True)
            change = merge(self._settings, wanted)
            # What may fail comes first, so that a refused reload leaves the old settings in force.
            certificates.check()
            await self._follow_rules(change.settings)
            certificates.renew()
        except (ConfigError, StoreFull) as error:
            mistakes = error.mistakes if isinstance(error, ConfigError) else [str(error)]
            log.error("settings.refused", mistakes=mistakes)  # noqa: TRY400  # no defect of ours
            self._notifier.ready("new settings were refused, see the log; the old ones hold")
            return
        self._source.adopt(change.settings)
        self._reconfigure(change.settings)
        self._settings = change.settings
        log.info("settings.reloaded", taken=change.taken, waiting_for_restart=change.waiting)
        self._notifier.ready(f"settings reloaded, {len(change.waiting)} wait for a restart")

    async def _follow_rules(self, settings: Settings) -> None:
        """Recompute the segments by new rules; the rules stand in the segment table itself.

        Raises:
            StoreFull: If there is no room; nothing has changed.
            StoreFailed: If the disk failed; the process must end.
        """
        rules = app_rules(settings)
        if rules != app_rules(self._settings):
            shared = self._runtime.shared
            await shared.segments.cohorts.configure(rules, shared.clock.now_ms())

    def _reconfigure(self, settings: Settings) -> None:
        """Apply new settings to every part; nothing here can fail."""
        runtime, limits = self._runtime, settings.outbox
        self._servers.reconfigure(settings)
        runtime.admission.max_events = runtime.shared.outbox.writer.max_events = limits.max_events
        runtime.shared.ballast.min_free_bytes = limits.min_free_bytes
        runtime.cohort_webhook.guard = guard_policy(settings)
        for app in runtime.apps.values():
            app.reconfigure(settings)
