"""How the sandbox starts."""

from dataclasses import dataclass
from typing import Final

from relay.sandbox.faults import Fault
from relay.sandbox.onesignal import Target
from relay.sandbox.source import TrafficOrder

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
        api_keys: Keys the Amplitude stand-in knows.
        accepts_any_key: Whether it takes every key.
        faults: Switched on at the start, in this order.
        throttled: Device or user ids that are throttled from the start.
        target: Where the traffic source sends; None = told with each order.
        app_id: OneSignal app its events name.
        order: Traffic that starts at once.
        secret_key: Secret key of every project, for its cohorts.
        onesignal_key: Key of the app, for its export.
        people: So many users are known to both services from the start.
    """

    host: str = "127.0.0.1"
    port: int = 9090
    api_keys: tuple[str, ...] = (DEFAULT_API_KEY,)
    accepts_any_key: bool = False
    faults: tuple[Fault, ...] = ()
    throttled: tuple[str, ...] = ()
    target: Target | None = None
    app_id: str = DEFAULT_APP_ID
    order: TrafficOrder | None = None
    secret_key: str = DEFAULT_SECRET_KEY
    onesignal_key: str = DEFAULT_ONESIGNAL_KEY
    people: int = 0
