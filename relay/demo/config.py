"""Configuration of the demo: two apps with fresh secrets, and the settings of its relay.

The demo reads no configuration: settings of another relay, or of a service manager, never
reach the relay it starts.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from relay.settings import Address

_FOREIGN_PREFIX: Final = "RELAY_"
_FOREIGN_NAMES: Final = frozenset(
    {"CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
)
_SETTINGS: Final[Mapping[str, str]] = {
    "RELAY_LOG_FORMAT": "json",
    "RELAY_OUTBOX__MIN_FREE_BYTES": "0",
    "RELAY_DELIVERY__MAX_BATCH_EVENTS": "200",
    "RELAY_DELIVERY__LINGER_S": "0.05",
    "RELAY_DELIVERY__REQUEST_TIMEOUT_S": "10",
    "RELAY_DELIVERY__BACKOFF_BASE_S": "0.1",
    "RELAY_DELIVERY__BACKOFF_CAP_S": "1",
    "RELAY_DELIVERY__THROTTLE_HOLD_S": "1.5",
    "RELAY_DELIVERY__HALT_PROBE_S": "1",
    "RELAY_COHORTS__POLL_INTERVAL_S": "0.2",
    "RELAY_COHORTS__EXPORT_POLL_S": "0.1",
    "RELAY_COHORTS__MONTHLY_DOWNLOADS": "1000000000",
    "RELAY_DIRECTORY__SYNC_INTERVAL_S": "0",
}
"""Short waits: what takes a day in production must fit into half a minute."""

_COHORTS: Final = ("all", "none")
"""`COHORTS` of the larger app and of the smaller one."""


@dataclass(frozen=True, slots=True)
class App:
    """One OneSignal app linked to one Amplitude project; all but the first two are secrets."""

    name: str
    onesignal_id: str
    token: str
    api_key: str
    secret_key: str
    onesignal_key: str

    @property
    def secrets(self) -> dict[str, str]:
        """Each secret, and a name for it that may be printed."""
        return {
            self.token: f"the webhook token of {self.name}",
            self.api_key: f"the Amplitude key of {self.name}",
            self.secret_key: f"the Amplitude secret key of {self.name}",
            self.onesignal_key: f"the OneSignal key of {self.name}",
        }


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything listens: relay's two doors, and the stand-ins' scheme, host and port."""

    public: Address
    admin: Address
    sandbox: str

    def hook(self, app: App, kind: str = "events") -> str:
        """Return the URL of an app's webhook for `events` or `cohorts`."""
        return f"http://{self.public}/v1/apps/{app.name}/{kind}"


def make_app(name: str) -> App:
    """Return an app with new secrets."""
    return App(
        name,
        onesignal_id=str(UUID(bytes=secrets.token_bytes(16), version=4)),
        token=f"hook-{secrets.token_urlsafe(24)}",
        api_key=secrets.token_hex(16),
        secret_key=secrets.token_hex(16),
        onesignal_key=f"os_v2_app_{secrets.token_urlsafe(24)}",
    )


def relay_environment(
    inherited: Mapping[str, str], apps: Sequence[App], addresses: Addresses, folder: Path
) -> dict[str, str]:
    """Return the environment of the demo's relay: what it inherits, and the demo's settings.

    Variables that configure another relay are left out.
    """
    kept = {name: text for name, text in inherited.items() if not _is_foreign(name.upper())}
    own = {
        "RELAY_DATA_DIR": str(folder),
        "RELAY_LISTEN": str(addresses.public),
        "RELAY_ADMIN_LISTEN": str(addresses.admin),
    }
    for app, cohorts in zip(apps, _COHORTS, strict=True):
        settings = {
            "ONESIGNAL_APP_ID": app.onesignal_id,
            "WEBHOOK_TOKENS": app.token,
            "AMPLITUDE_API_KEY": app.api_key,
            "AMPLITUDE_SECRET_KEY": app.secret_key,
            "ONESIGNAL_API_KEY": app.onesignal_key,
            "AMPLITUDE_INGEST_URL": addresses.sandbox,
            "AMPLITUDE_COHORTS_URL": addresses.sandbox,
            "ONESIGNAL_API_URL": addresses.sandbox,
            "COHORTS": cohorts,
        }
        own |= {f"RELAY_APPS__{app.name.upper()}__{name}": text for name, text in settings.items()}
    return {**kept, **_SETTINGS, **own}


def _is_foreign(name: str) -> bool:
    return name.startswith(_FOREIGN_PREFIX) or name in _FOREIGN_NAMES
