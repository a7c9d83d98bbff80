"""How the sandbox starts, and what it prints then."""

from dataclasses import dataclass
from typing import Final

from yarl import URL

from relay.sandbox.common.faults import API_FAULT_NAMES, UPLOAD_FAULT_NAMES, UploadFault
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.source import TrafficOrder

DEFAULT_API_KEY: Final = "sandbox-api-key"
DEFAULT_SECRET_KEY: Final = "sandbox-secret-key"  # noqa: S105 - printed for all to see
DEFAULT_ONESIGNAL_KEY: Final = "sandbox-onesignal-key"
DEFAULT_APP_ID: Final = "11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How the sandbox starts.

    Attributes:
        host: Address to listen on.
        port: Port; 0 = any free one.
        api_keys: Keys that the Amplitude stand-in knows.
        accepts_any_key: Whether it accepts every key.
        faults: Switched on at the start, in this order.
        throttled: Device or user ids that are throttled from the start.
        target: Where the event stream sends to; None = each order names it.
        app_id: OneSignal app that its events name.
        order: Traffic that starts at once.
        secret_key: Secret key of every project, for its cohorts.
        onesignal_key: Key of the app, for its export.
        people: Number of users both services know from the start.
    """

    host: str = "127.0.0.1"
    port: int = 9090
    api_keys: tuple[str, ...] = (DEFAULT_API_KEY,)
    accepts_any_key: bool = False
    faults: tuple[UploadFault, ...] = ()
    throttled: tuple[str, ...] = ()
    target: Target | None = None
    app_id: str = DEFAULT_APP_ID
    order: TrafficOrder | None = None
    secret_key: str = DEFAULT_SECRET_KEY
    onesignal_key: str = DEFAULT_ONESIGNAL_KEY
    people: int = 0


def describe(url: URL, options: SandboxOptions) -> list[str]:
    """Return what the sandbox offers, as lines to copy from."""
    base = str(url).rstrip("/")
    return [*_uploads(base, options), *_cohorts(base, options), *_onesignal(base, options)]


def _uploads(base: str, options: SandboxOptions) -> list[str]:
    faults = f"{base}/_sandbox/amplitude/faults"
    keys = "any key" if options.accepts_any_key else ", ".join(options.api_keys)
    return [
        f"Amplitude's stand-in takes uploads for {keys}. Point relay at it with",
        f"  RELAY_APPS__<APP>__AMPLITUDE_INGEST_URL={base}",
        "What it holds, and how it misbehaves:",
        f"  curl {base}/_sandbox/amplitude",
        f'  curl -d \'{{"name":"503","count":3}}\' {faults}',
        f'  curl -d \'{{"name":"stored_504","seconds":5,"retry_after":2}}\' {faults}',
        f"  curl -X DELETE {faults}",
        f"  names: {' '.join(UPLOAD_FAULT_NAMES)}",
        f'  curl -d \'{{"throttled_users":["user-10001"]}}\' {base}/_sandbox/amplitude/conditions',
    ]


def _cohorts(base: str, options: SandboxOptions) -> list[str]:
    control = f"{base}/_sandbox/cohorts"
    hook = '{"url":"http://127.0.0.1:8080/v1/apps/<APP>/cohorts","token":"<TOKEN>"}'
    cohort = '{"id":"c1","name":"Mine","user_ids":["user-10001","user-10002"]}'
    return [
        f"Its cohorts need the API key ({', '.join(options.api_keys)}) and the secret key:",
        f"  RELAY_APPS__<APP>__AMPLITUDE_COHORTS_URL={base}",
        f"  RELAY_APPS__<APP>__AMPLITUDE_SECRET_KEY={options.secret_key}",
        f"  curl {control}",
        f"  curl -X PUT -d '{cohort}' {control}",
        f'  curl -d \'{{"remove":["user-10001"]}}\' {control}/c1/members',
        f"  curl -d '{hook}' {control}/c1/push",
        f'  curl -d \'{{"shape":{{"cut":"gzip"}},"delivery":"link"}}\' {control}/conditions',
        f'  curl -d \'{{"name":"429","operation":"request","count":1}}\' {control}/faults',
        f"  names: {' '.join(API_FAULT_NAMES)}",
        f"  curl {control}/requests",
    ]


def _onesignal(base: str, options: SandboxOptions) -> list[str]:
    control = f"{base}/_sandbox/exports"
    return [
        f"OneSignal's stand-in sends events when told (app id {options.app_id}):",
        f'  curl -d \'{{"events":1000,"duplicate_rate":0.1}}\' {base}/_sandbox/onesignal/start',
        f"  curl {base}/_sandbox/onesignal",
        "It exports its subscriptions to relay with",
        f"  RELAY_APPS__<APP>__ONESIGNAL_API_URL={base}",
        f"  RELAY_APPS__<APP>__ONESIGNAL_API_KEY={options.onesignal_key}",
        f"  curl {control}",
        f'  curl -X PUT -d \'[["user-1","subscription-1",1,true]]\' {control}/subscribers',
        f"  curl -d '{{\"seconds\":30}}' {control}/conditions",
        f'  curl -d \'{{"name":"503","operation":"export","count":2}}\' {control}/faults',
    ]
