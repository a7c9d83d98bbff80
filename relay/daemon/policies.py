"""From settings to the numbers each part works by: the only place that knows both."""

from collections.abc import Callable
from typing import Final

from pydantic import SecretStr

from relay import __version__
from relay.amplitude.cohorts_api import CohortsTarget
from relay.amplitude.events_api import UploadTarget
from relay.cohorts.download import DownloadPolicy
from relay.cohorts.poll_state import PollPolicy
from relay.delivery.batching import BatchLimits
from relay.delivery.circuit_breaker import BackoffPolicy
from relay.delivery.policy import DeliveryPolicy
from relay.delivery.pool import DeliverySetup
from relay.directory.sync import SyncPolicy
from relay.events.mapping import MappingPolicy
from relay.ingest.events import Source
from relay.onesignal.export_api import ExportTarget
from relay.outbox.counters import AppState
from relay.segments.cohorts import AppRules
from relay.segments.guard import GuardPolicy
from relay.settings import AppSettings, DeliverySettings, Settings

LIBRARY: Final = f"relay/{__version__}"

REQUEST_TIMEOUT_S: Final = 60.0
"""For one request to the cohorts API or OneSignal, and between two pieces of a file.

Source: OneSignal, REST API (2026): it answers within 100 s at most, and rarely so late.
"""


def event_source(name: str, no: int, app: AppSettings) -> Source:
    """Return an app as ingest sees it.

    Args:
        name: The app's name.
        no: Its number in the outbox.
        app: Its settings.
    """
    policy = MappingPolicy(
        app_id=app.onesignal_app_id,
        kinds=app.events,
        name_set=app.event_names,
        anonymous=app.anonymous,
        library=LIBRARY,
    )
    return Source(name, no, policy)


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
    state: AppState, delivery: DeliverySettings, overhead_bytes: int
) -> DeliverySetup:
    """Return how an app's events are delivered.

    Args:
        state: The app as the outbox knows it.
        delivery: The settings.
        overhead_bytes: Of an upload, besides its events.
    """
    return DeliverySetup(
        app=state.app,
        no=state.no,
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
        is_paused=state.is_paused,
    )


def app_rules(settings: Settings) -> dict[str, AppRules]:
    """Return what the settings say of each app's segments."""
    return {
        name: AppRules(app.membership == "all", app.segment_limit)
        for name, app in settings.apps.items()
    }


def guard_policy(settings: Settings) -> GuardPolicy:
    """Return which removals are held."""
    cohorts = settings.cohorts
    return GuardPolicy(cohorts.guard_removed_ratio, cohorts.guard_min_members)


def download_policy(settings: Settings, check_room: Callable[[], None]) -> DownloadPolicy:
    """Return how exports are waited for, and which of them the guard holds."""
    cohorts = settings.cohorts
    return DownloadPolicy(
        poll_s=cohorts.export_poll_s,
        timeout_s=cohorts.export_timeout_s,
        guard=guard_policy(settings),
        scratch=settings.data_dir,
        check_room=check_room,
    )


def poll_policy(name: str, settings: Settings) -> PollPolicy:
    """Return how an app's cohorts are polled, or why they are not."""
    app = settings.apps[name]
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


def cohorts_target(app: AppSettings) -> CohortsTarget:
    """Return where and as whom an app's cohorts are read."""
    secret = app.amplitude_secret_key
    return CohortsTarget(
        app.amplitude_cohorts_url,
        plain(app.amplitude_api_key),
        plain(secret) if secret else "",
        REQUEST_TIMEOUT_S,
    )


def export_target(app: AppSettings) -> ExportTarget:
    """Return where and of which OneSignal app subscriptions are exported."""
    key = app.onesignal_api_key
    return ExportTarget(
        app.onesignal_api_url, app.onesignal_app_id, plain(key) if key else "", REQUEST_TIMEOUT_S
    )


def sync_policy(name: str, settings: Settings) -> SyncPolicy:
    """Return when an app's directory is refreshed, or why it is not."""
    off = None
    if settings.apps[name].onesignal_api_key is None:
        variable = f"RELAY_APPS__{name.upper()}__ONESIGNAL_API_KEY"
        off = f"the directory is not refreshed from OneSignal: {variable} is not set"
    return SyncPolicy(
        interval_s=settings.directory.sync_interval_s,
        poll_s=settings.cohorts.export_poll_s,
        timeout_s=settings.cohorts.export_timeout_s,
        off=off,
    )


def plain(secret: SecretStr) -> str:
    """Return a secret's text."""
    return secret.get_secret_value()
