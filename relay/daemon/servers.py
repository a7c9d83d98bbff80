"""The two doors, built from the parts of a running daemon."""

from dataclasses import dataclass, field

from aiohttp import web

from relay.clock import Clock
from relay.daemon.cohort_side import CohortSide
from relay.daemon.event_side import EventSide
from relay.daemon.policies import event_sources, hooks, plain, upload_projects
from relay.http.admin.app import admin_app
from relay.http.admin.context import AdminContext
from relay.http.auth import Tokens
from relay.http.failed_auth import FailedAuthThrottle
from relay.http.health import HealthAnswers
from relay.http.public.app import Handler, PublicDoor
from relay.http.public.cohorts_webhook import CohortsWebhook
from relay.http.public.events_webhook import EventsWebhook
from relay.http.public.uploads import Project, Uploads
from relay.http.public.webhook import AppWebhook, Webhook, WebhookRequests
from relay.http.server.body import BodyReader
from relay.http.server.in_flight import InFlightRequests
from relay.ingest.admission import AdmissionControl
from relay.ingest.events import EventIngest, Source
from relay.ingest.upload_request import BATCH, HTTP_V2
from relay.ingest.uploads import UploadIngest
from relay.observability.health import Health
from relay.observability.metrics import Metrics
from relay.observability.status import Status
from relay.outbox.counters import AppCounters
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class Access:
    """Who may come in, and as whom; it follows the settings while the doors are open.

    Attributes:
        sources: Every app as its events hook sees it.
        hooks: Every app's hooks.
        admin: The admin door's tokens; none if whoever is on this machine may come in.
        attempts: Slows who guesses.
        projects: Every app's Amplitude project, to which SDKs upload.
    """

    sources: dict[str, Source]
    hooks: dict[str, Webhook]
    admin: Tokens
    attempts: FailedAuthThrottle
    projects: dict[str, Project] = field(default_factory=dict)

    def follow(self, settings: Settings, ledger: AppCounters) -> None:
        """Let in, from now on, whom the settings name; the apps stay the same."""
        self.sources.update(event_sources(settings, ledger))
        self.hooks.update(hooks(settings, self.sources))
        self.projects.update(upload_projects(settings, self.sources))
        self.admin.renew([plain(settings.admin_token)] if settings.admin_token else [])


@dataclass(frozen=True, slots=True)
class Running:
    """A running daemon, as its doors reach it."""

    events: EventSide
    cohorts: CohortSide
    admission: AdmissionControl
    health: Health
    metrics: Metrics
    clock: Clock
    access: Access

    @property
    def reception(self) -> EventIngest:
        """What takes the bodies of the events hook."""
        outbox = self.events.outbox
        return EventIngest(outbox.writer, outbox.message_cache, self.clock, self.cohorts.feed)


def public_door(settings: Settings, running: Running, bodies: BodyReader) -> PublicDoor:
    """Return what answers at the public door."""
    access = running.access
    calls = WebhookRequests(access.hooks, running.admission, bodies, running.access.attempts)
    app_hooks: dict[str, AppWebhook] = {
        "events": EventsWebhook(calls, running.reception),
        "cohorts": CohortsWebhook(calls, running.cohorts.reception),
    }
    reception = UploadIngest(running.reception, running.clock)
    uploads = Uploads(access.projects, reception, running.admission, bodies, access.attempts)
    fixed = _health_routes(HealthAnswers(running.health)) | _upload_routes(uploads)
    return PublicDoor(settings.apps, app_hooks, fixed, bodies, running.metrics, running.clock)


def _health_routes(health: HealthAnswers) -> dict[str, dict[str, Handler]]:
    return {
        path: {"GET": handler, "HEAD": handler}
        for path, handler in (("/healthz", health.healthz), ("/readyz", health.readyz))
    }


def _upload_routes(uploads: Uploads) -> dict[str, dict[str, Handler]]:
    return {
        HTTP_V2.path: {"POST": uploads.post_http_v2, "OPTIONS": uploads.preflight},
        BATCH.path: {"POST": uploads.post_batch, "OPTIONS": uploads.preflight},
    }


def admin_door(
    running: Running, bodies: BodyReader, under_way: InFlightRequests
) -> web.Application:
    """Return what answers at the admin door."""
    events, cohorts = running.events, running.cohorts
    status = Status(
        events.outbox.counters, events.deliveries, cohorts.segments, cohorts.pollers, running.clock
    )
    context = AdminContext(
        apps=running.access.sources,
        outbox=events.outbox,
        deliveries=events.deliveries,
        status=status,
        reception=running.reception,
        sources=running.access.sources,
        health=running.health,
        metrics=running.metrics,
        clock=running.clock,
        segments=cohorts.segments,
        cohort_reception=cohorts.reception,
        pollers=cohorts.pollers,
        imports=cohorts.imports,
        syncs=cohorts.syncs,
    )
    access = running.access
    return admin_app(context, bodies, under_way, access.attempts, tokens=access.admin)
