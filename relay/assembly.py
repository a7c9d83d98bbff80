"""From settings to parts: the only place that knows both."""

from collections.abc import Mapping

import aiohttp
from pydantic import SecretStr

from relay import __version__
from relay.amplitude.events_api import UploadTarget
from relay.delivery.backoff import BackoffPolicy
from relay.delivery.batching import BatchLimits
from relay.delivery.delivery import DeliverySetup
from relay.delivery.line import DeliveryPolicy
from relay.doors.events_hook import Hook
from relay.doors.tokens import Tokens
from relay.events.mapping import MappingPolicy
from relay.outbox.ledger import AppState, Ledger
from relay.reception import Source
from relay.settings import AppSettings, DeliverySettings, Settings

LIBRARY = f"relay/{__version__}"


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


def hooks(settings: Settings, sources: Mapping[str, Source]) -> dict[str, Hook]:
    """Return every app's hook: its tokens and what its events become."""
    return {
        app: Hook(Tokens(map(plain, settings.apps[app].webhook_tokens)), source)
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
    state: AppState, delivery: DeliverySettings, overhead_bytes: int
) -> DeliverySetup:
    """Return how an app's events are delivered.

    Args:
        state: What the outbox knows of the app.
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


def open_session() -> aiohttp.ClientSession:
    """Return the client session of every app; it never makes one app wait for another."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": LIBRARY},
    )


def plain(secret: SecretStr) -> str:
    """Return a secret's text."""
    return secret.get_secret_value()
