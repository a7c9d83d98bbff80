"""What `relay sandbox` says when it is open: where relay is pointed, and what can be tried."""

from yarl import URL

from relay.sandbox.faults import FAULT_NAMES
from relay.sandbox.mishaps import MISHAP_NAMES
from relay.sandbox.options import SandboxOptions


def describe(url: URL, options: SandboxOptions) -> list[str]:
    """Return what the sandbox offers, for a person to copy from."""
    door = str(url).rstrip("/")
    return [*_uploads(door, options), *_cohorts(door, options), *_onesignal(door, options)]


def _uploads(door: str, options: SandboxOptions) -> list[str]:
    faults = f"{door}/_sandbox/amplitude/faults"
    keys = "any key" if options.accepts_any_key else ", ".join(options.api_keys)
    return [
        f"Amplitude's stand-in takes uploads for {keys}. Point relay at it with",
        f"  RELAY_APPS__<APP>__AMPLITUDE_INGEST_URL={door}",
        "What it holds, and how it misbehaves:",
        f"  curl {door}/_sandbox/amplitude",
        f'  curl -d \'{{"name":"503","count":3}}\' {faults}',
        f'  curl -d \'{{"name":"stored_504","seconds":5,"retry_after":2}}\' {faults}',
        f"  curl -X DELETE {faults}",
        f"  names: {' '.join(FAULT_NAMES)}",
        f'  curl -d \'{{"throttled_users":["user-10001"]}}\' {door}/_sandbox/amplitude/conditions',
    ]


def _cohorts(door: str, options: SandboxOptions) -> list[str]:
    control = f"{door}/_sandbox/cohorts"
    hook = '{"url":"http://127.0.0.1:8080/v1/apps/<APP>/cohorts","token":"<TOKEN>"}'
    cohort = '{"id":"c1","name":"Mine","user_ids":["user-10001","user-10002"]}'
    return [
        f"Its cohorts need the API key ({', '.join(options.api_keys)}) and the secret key:",
        f"  RELAY_APPS__<APP>__AMPLITUDE_COHORTS_URL={door}",
        f"  RELAY_APPS__<APP>__AMPLITUDE_SECRET_KEY={options.secret_key}",
        f"  curl {control}",
        f"  curl -X PUT -d '{cohort}' {control}",
        f'  curl -d \'{{"remove":["user-10001"]}}\' {control}/c1/members',
        f"  curl -d '{hook}' {control}/c1/push",
        f'  curl -d \'{{"shape":{{"cut":"gzip"}},"delivery":"link"}}\' {control}/conditions',
        f'  curl -d \'{{"name":"429","operation":"request","count":1}}\' {control}/faults',
        f"  names: {' '.join(MISHAP_NAMES)}",
        f"  curl {control}/requests",
    ]


def _onesignal(door: str, options: SandboxOptions) -> list[str]:
    control = f"{door}/_sandbox/exports"
    return [
        "OneSignal's stand-in sends events when told (app id " + options.app_id + "):",
        f'  curl -d \'{{"events":1000,"duplicate_rate":0.1}}\' {door}/_sandbox/onesignal/start',
        f"  curl {door}/_sandbox/onesignal",
        "It exports its subscriptions to relay with",
        f"  RELAY_APPS__<APP>__ONESIGNAL_API_URL={door}",
        f"  RELAY_APPS__<APP>__ONESIGNAL_API_KEY={options.onesignal_key}",
        f"  curl {control}",
        f'  curl -X PUT -d \'[["user-1","subscription-1",1,true]]\' {control}/subscribers',
        f"  curl -d '{{\"seconds\":30}}' {control}/conditions",
        f'  curl -d \'{{"name":"503","operation":"export","count":2}}\' {control}/faults',
    ]
