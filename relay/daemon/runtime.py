"""Every part of a running daemon behind its two servers: built and started here."""

from anyio.abc import TaskGroup

from relay.cohorts.webhook import CohortWebhook
from relay.daemon.app_runtime import AppRuntime, SharedParts
from relay.daemon.policies import guard_policy
from relay.directory.observer import Observer
from relay.heartbeat import SLACK_S, Heartbeat
from relay.ingest.admission import AdmissionControl
from relay.ingest.events import EventIngest
from relay.ingest.uploads import UploadIngest
from relay.maintenance import OUTBOX, SEGMENTS, Maintenance
from relay.observability.health import Health
from relay.observability.status import Status
from relay.outbox.counters import AppState
from relay.settings import Settings

FLUSH_S = 300.0
"""Slack of the outbox's maintenance: a flush of the dedup index waits for many syncs."""


class Runtime:
    """The parts of a running daemon.

    Attributes:
        shared: What all apps share.
        apps: Everything of one app, by name.
        admission: Whether new events are taken.
        event_ingest: Stores the bodies of the events webhook.
        upload_ingest: Stores what SDKs upload.
        cohort_webhook: Applies the messages of the cohorts webhook.
        health: Whether all loops are alive.
        status: How every app is doing.
    """

    def __init__(
        self,
        settings: Settings,
        shared: SharedParts,
        states: dict[str, AppState],
        heartbeats: dict[str, Heartbeat],
    ) -> None:
        """Build every part.

        Args:
            settings: What they are built from.
            shared: What all apps share.
            states: What the outbox knows of each app.
            heartbeats: The loops that run already; those of this runtime are added.
        """
        self.shared = shared
        self._heartbeats = heartbeats
        self.apps = {
            name: AppRuntime(name, settings, shared, states[name]) for name in settings.apps
        }
        self.admission = AdmissionControl(
            shared.ballast,
            shared.outbox.counters,
            self._heartbeat("admission"),
            max_events=settings.outbox.max_events,
        )
        self._build_intake(settings)
        heartbeats["directory.feed"] = self._observer.heartbeat
        for app in self.apps.values():
            heartbeats |= app.heartbeats
        self.health = Health(heartbeats, self.admission)
        self.status = Status(self.apps, shared.outbox.counters, shared.segments, shared.clock)

    def _build_intake(self, settings: Settings) -> None:
        """Build what stores request bodies."""
        outbox, segments, clock = self.shared.outbox, self.shared.segments, self.shared.clock
        in_segments = {name: segments.cohorts.number(name) for name in self.apps}
        self._observer = Observer(segments.directory, segments.forgotten, in_segments, clock)
        self.event_ingest = EventIngest(outbox.writer, outbox.message_cache, clock, self._observer)
        self.upload_ingest = UploadIngest(self.event_ingest, clock)
        in_outbox = {name: outbox.counters.number(name) for name in self.apps}
        guard = guard_policy(settings)
        self.cohort_webhook = CohortWebhook(segments, outbox.writer, in_outbox, guard, clock)

    async def start(self, group: TaskGroup) -> None:
        """Start every loop but the deliveries."""
        shared = self.shared
        await group.start(self.admission.run, name="admission")
        heartbeat = self._heartbeat("housekeeping", FLUSH_S)
        outbox = Maintenance(shared.outbox.retention, shared.clock, heartbeat, OUTBOX)
        await group.start(outbox.run, name="outbox maintenance")
        heartbeat = self._heartbeat("segments housekeeping")
        segments = Maintenance(shared.segments.retention, shared.clock, heartbeat, SEGMENTS)
        await group.start(segments.run, name="segments maintenance")
        await group.start(self._observer.run, name="directory feed")
        for app in self.apps.values():
            await app.start_cohorts(group)

    async def flush(self) -> None:
        """Write what passing events said of the directory, once no request is under way."""
        await self._observer.flush()

    def _heartbeat(self, name: str, slack_s: float = SLACK_S) -> Heartbeat:
        heartbeat = self._heartbeats[name] = Heartbeat(self.shared.clock, slack_s)
        return heartbeat
