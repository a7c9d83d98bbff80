"""From settings to parts: the only place that knows both."""

from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
from pydantic import SecretStr

from relay import __version__
from relay.amplitude.cohorts_api import CohortsApi, CohortsTarget
from relay.amplitude.events_api import UploadTarget
from relay.clock import Clock
from relay.cohorts.download import DownloadPolicy, Downloads
from relay.cohorts.polled_app import PolledApp, PollPolicy
from relay.cohorts.poller import Poller
from relay.delivery.backoff import BackoffPolicy
from relay.delivery.batching import BatchLimits
from relay.delivery.delivery import DeliverySetup
from relay.delivery.line import DeliveryPolicy
from relay.directory.importer import Importer
from relay.directory.sync import DirectorySync, SyncedApp, SyncPolicy
from relay.events.mapping import MappingPolicy
from relay.http.auth import Tokens
from relay.http.public.uploads import Project
from relay.http.public.webhook import Webhook
from relay.http.server.tls import Certificate, Certificates
from relay.ingest.events import Source
from relay.onesignal.export_api import ExportApi, ExportTarget
from relay.outbox.counters import AppCounters
from relay.process.dns import ThreadedResolver
from relay.segments.cohorts import AppRules
from relay.segments.download_log import DownloadLog
from relay.segments.guard import GuardPolicy
from relay.segments.store import Segments
from relay.settings import AppSettings, DeliverySettings, Settings

LIBRARY = f"relay/{__version__}"

REQUEST_TIMEOUT_S = 60.0
"""For one question to the cohorts API or OneSignal, and for a file to go on coming.

Source: OneSignal, REST API (2026): it answers within 100 s at most, and rarely so late.
"""


def event_sources(settings: Settings, ledger: AppCounters) -> dict[str, Source]:
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


def hooks(settings: Settings, sources: Mapping[str, Source]) -> dict[str, Webhook]:
    """Return every app's hook: its tokens and what its events become."""
    return {
        app: Webhook(Tokens(map(plain, settings.apps[app].webhook_tokens)), source)
        for app, source in sources.items()
    }


def upload_projects(settings: Settings, sources: Mapping[str, Source]) -> dict[str, Project]:
    """Return whose uploads are taken: of who presents an app's own Amplitude key."""
    return {
        app: Project(Tokens([plain(settings.apps[app].amplitude_api_key)]), source)
        for app, source in sources.items()
    }


def upload_target(app: AppSettings, delivery: DeliverySettings) -> UploadTarget:
    """Return where and how an app's events are uploaded."""
    return UploadTarget(
        url=app.amplitude_ingest_url,
        upload=app.amplitude_upload,
        api_key=plain(app.amplitude_api_key),
        timeout_s=delivery.request_timeout_s,
        gzip=delivery.gzip,
    )


def delivery_setup(
    app: str, no: int, delivery: DeliverySettings, overhead_bytes: int, *, is_paused: bool = False
) -> DeliverySetup:
    """Return how an app's events are delivered.

    Args:
        app: The app's name.
        no: Its number in the outbox.
        delivery: The settings.
        overhead_bytes: Of an upload, besides its events.
        is_paused: Whether a person has paused it.
    """
    return DeliverySetup(
        app=app,
        no=no,
        senders=delivery.senders,
        limits=BatchLimits(delivery.max_batch_events, delivery.max_batch_bytes, overhead_bytes),
        linger_s=delivery.linger_s,
        halt_probe_s=delivery.halt_probe_s,
        policy=DeliveryPolicy(
            backoff=BackoffPolicy(delivery.backoff_base_s, delivery.backoff_cap_s),
            hold_s=delivery.throttle_hold_s,
            max_age_ms=round(delivery.max_age_s * 1000),
            timeout_s=delivery.request_timeout_s,
        ),
        is_paused=is_paused,
    )


def app_rules(settings: Settings) -> dict[str, AppRules]:
    """Return what the settings say of each app's segments."""
    return {
        app: AppRules(own.membership == "all", own.segment_limit)
        for app, own in settings.apps.items()
    }


def guard_policy(settings: Settings) -> GuardPolicy:
    """Return which removals are held."""
    cohorts = settings.cohorts
    return GuardPolicy(cohorts.guard_removed_ratio, cohorts.guard_min_members)


def download_policy(settings: Settings, check_room: Callable[[], None]) -> DownloadPolicy:
    """Return how exports are waited for, and what of them is believed."""
    cohorts = settings.cohorts
    return DownloadPolicy(
        poll_s=cohorts.export_poll_s,
        timeout_s=cohorts.export_timeout_s,
        guard=guard_policy(settings),
        scratch=settings.data_dir,
        check_room=check_room,
    )


def poll_policy(name: str, app: AppSettings, settings: Settings) -> PollPolicy:
    """Return how an app's cohorts are polled, or why they are not."""
    prefix = f"RELAY_APPS__{name.upper()}__"
    off = None
    if app.amplitude_secret_key is None:
        off = f"cohorts are not polled: {prefix}AMPLITUDE_SECRET_KEY is not set"
    elif app.cohorts.is_empty:
        off = f"cohorts are not polled: {prefix}COHORTS is none"
    return PollPolicy(
        interval_s=settings.cohorts.poll_interval_s,
        refused_s=settings.delivery.halt_probe_s,
        monthly=settings.cohorts.monthly_downloads,
        selected=app.cohorts,
        off=off,
    )


def pollers(
    settings: Settings,
    segments: Segments,
    session: aiohttp.ClientSession,
    clock: Clock,
    check_room: Callable[[], None],
) -> dict[str, Poller]:
    """Return the poller of every app."""
    polls = DownloadLog(segments.database)
    made = {}
    for name, app in settings.apps.items():
        number = segments.catalog.number(name)
        api = CohortsApi(session, cohorts_target(app), clock)
        downloads = Downloads(
            number,
            api,
            polls,
            segments.forgotten,
            download_policy(settings, check_room),
            clock,
        )
        polled = PolledApp(number, api, downloads)
        policy = poll_policy(name, app, settings)
        made[name] = Poller(polled, segments.catalog, polls, policy, clock)
    return made


def cohorts_target(app: AppSettings) -> CohortsTarget:
    """Return where and as whom an app's cohorts are read."""
    secret = app.amplitude_secret_key
    return CohortsTarget(
        app.amplitude_cohorts_url,
        plain(app.amplitude_api_key),
        plain(secret) if secret else "",
        REQUEST_TIMEOUT_S,
    )


def directory_syncs(
    settings: Settings,
    segments: Segments,
    imports: Importer,
    session: aiohttp.ClientSession,
    clock: Clock,
) -> dict[str, DirectorySync]:
    """Return what keeps every app's directory current."""
    made = {}
    for name, app in settings.apps.items():
        api = ExportApi(session, export_target(app))
        synced = SyncedApp(name, segments.catalog.number(name), api)
        policy = sync_policy(name, app, settings)
        made[name] = DirectorySync(synced, imports, segments.directory, policy, clock)
    return made


def export_target(app: AppSettings) -> ExportTarget:
    """Return where and of which OneSignal app subscriptions are exported."""
    key = app.onesignal_api_key
    return ExportTarget(
        app.onesignal_api_url, app.onesignal_app_id, plain(key) if key else "", REQUEST_TIMEOUT_S
    )


def sync_policy(name: str, app: AppSettings, settings: Settings) -> SyncPolicy:
    """Return when an app's directory is refreshed, or why it is not."""
    off = None
    if app.onesignal_api_key is None:
        variable = f"RELAY_APPS__{name.upper()}__ONESIGNAL_API_KEY"
        off = f"the directory is not refreshed from OneSignal: {variable} is not set"
    return SyncPolicy(
        interval_s=settings.directory.sync_interval_s,
        poll_s=settings.cohorts.export_poll_s,
        timeout_s=settings.cohorts.export_timeout_s,
        off=off,
    )


def certificates(settings: Settings) -> Certificates:
    """Return what the doors prove their names with.

    Raises:
        ConfigError: If a file does not serve.
    """
    return Certificates(
        _certificate("RELAY_TLS", settings.tls_cert_file, settings.tls_key_file),
        _certificate("RELAY_ADMIN_TLS", settings.admin_tls_cert_file, settings.admin_tls_key_file),
    )


def _certificate(variables: str, cert: Path | None, key: Path | None) -> Certificate | None:
    return Certificate(variables, cert, key) if cert and key else None


def open_session(*, keeps_alive: bool = True) -> aiohttp.ClientSession:
    """Return a client session of every app; it never makes one app wait for another.

    One that does not keep connections alive never sends a request twice by itself, as aiohttp does
    when a kept connection turns out to be closed: that would ask for two exports.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, force_close=not keeps_alive, resolver=ThreadedResolver()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": LIBRARY},
    )


def plain(secret: SecretStr) -> str:
    """Return a secret's text."""
    return secret.get_secret_value()
