"""What of new settings a running daemon takes, and what waits for its next start."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from relay.errors import ConfigError
from relay.settings.app import AppSettings
from relay.settings.describe import APP_PREFIX, PREFIX
from relay.settings.model import Settings

_FIXED: Final = frozenset(
    {
        "RELAY_DATA_DIR",
        "RELAY_LISTEN",
        "RELAY_ADMIN_LISTEN",
        "RELAY_TLS_CERT_FILE",
        "RELAY_TLS_KEY_FILE",
        "RELAY_ADMIN_TLS_CERT_FILE",
        "RELAY_ADMIN_TLS_KEY_FILE",
        "RELAY_DELIVERY__SENDERS",
        "RELAY_APPS__<APP>__ONESIGNAL_APP_ID",
        "RELAY_APPS__<APP>__AMPLITUDE_API_KEY",
        "RELAY_APPS__<APP>__AMPLITUDE_SECRET_KEY",
        "RELAY_APPS__<APP>__AMPLITUDE_REGION",
        "RELAY_APPS__<APP>__AMPLITUDE_UPLOAD",
        "RELAY_APPS__<APP>__ONESIGNAL_API_KEY",
        "RELAY_APPS__<APP>__AMPLITUDE_INGEST_URL",
        "RELAY_APPS__<APP>__AMPLITUDE_COHORTS_URL",
        "RELAY_APPS__<APP>__ONESIGNAL_API_URL",
    }
)
"""What sockets, tasks and clients are made of. A certificate's files are read again, though."""


@dataclass(frozen=True, slots=True)
class Change:
    """New settings as a running daemon sees them.

    Attributes:
        settings: What holds from now on.
        taken: Names of the variables whose new values are in it.
        waiting: Names of those whose new values take a restart.
    """

    settings: Settings
    taken: tuple[str, ...]
    waiting: tuple[str, ...]


def takes_restart(variable: str) -> bool:
    """Tell whether a setting, named as in `describe_settings`, is read at the start alone."""
    return variable in _FIXED


def merge(running: Settings, wanted: Settings) -> Change:
    """Return what becomes of a running daemon's settings when others are wanted.

    Raises:
        ConfigError: If what can be taken does not go with what takes a restart.
    """
    merging = _Merging()
    values = merging.section(running, wanted, PREFIX, PREFIX)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError([_explain(detail) for detail in error.errors()]) from None
    return Change(settings, tuple(merging.taken), tuple(merging.waiting))


def _explain(detail: ErrorDetails) -> str:
    reason = str(detail.get("ctx", {}).get("error", detail["msg"]))
    variable = PREFIX + "__".join(map(str, detail["loc"])).upper()
    named = reason if reason.startswith(PREFIX) else f"{variable}: wanted {reason}"
    return f"{named}; that takes a restart of relay"


class _Merging:
    """Goes through two trees of settings side by side."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.waiting: list[str] = []

    def section(self, old: BaseModel, new: BaseModel, prefix: str, kind: str) -> dict[str, object]:
        """Return the values of one section: `prefix` names its variables, `kind` any app's."""
        return {
            name: self._value(
                getattr(old, name), getattr(new, name), prefix + name.upper(), kind + name.upper()
            )
            for name in type(old).model_fields
        }

    def _value(self, old: object, new: object, variable: str, kind: str) -> object:
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            return type(old).model_validate(self.section(old, new, f"{variable}__", f"{kind}__"))
        if isinstance(old, dict) and isinstance(new, dict):
            return self._apps(old, new)
        if old == new:
            return old
        if takes_restart(kind):
            self.waiting.append(variable)
            return old
        self.taken.append(variable)
        return new

    def _apps(
        self, old: Mapping[str, AppSettings], new: Mapping[str, AppSettings]
    ) -> dict[str, AppSettings]:
        """Merge the apps there are; those that come or go wait."""
        self.waiting += [f"{APP_PREFIX}{app.upper()}__…" for app in sorted(old.keys() ^ new.keys())]
        return {
            app: AppSettings.model_validate(
                self.section(own, new[app], f"{APP_PREFIX}{app.upper()}__", f"{APP_PREFIX}<APP>__")
            )
            if app in new
            else own
            for app, own in old.items()
        }
