"""Which of new settings a running daemon applies, and which wait for its next start."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from relay.errors import ConfigError
from relay.settings.app import AppSettings
from relay.settings.describe import APP_PREFIX, PREFIX, takes_restart
from relay.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Change:
    """New settings as a running daemon can apply them.

    Attributes:
        settings: Valid from now on: the old values where a new one takes a restart.
        taken: Variables whose new values are applied.
        waiting: Variables whose new values take a restart.
    """

    settings: Settings
    taken: tuple[str, ...]
    waiting: tuple[str, ...]


def merge(running: Settings, wanted: Settings) -> Change:
    """Return the settings of a running daemon after a reload.

    Raises:
        ConfigError: If new values that can be applied contradict old ones that take a restart.
    """
    merging = _Merging()
    values = merging.section(running, wanted, PREFIX)
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

    def section(self, old: BaseModel, new: BaseModel, prefix: str) -> dict[str, object]:
        """Return the values of one section, whose variables begin with `prefix`."""
        values: dict[str, object] = {}
        for name, field in type(old).model_fields.items():
            before, wanted = getattr(old, name), getattr(new, name)
            variable = prefix + name.upper()
            if isinstance(before, BaseModel):
                values[name] = type(before).model_validate(
                    self.section(before, wanted, f"{variable}__")
                )
            elif isinstance(before, dict):
                values[name] = self._apps(before, wanted)
            else:
                values[name] = self._value(before, wanted, variable, field)
        return values

    def _value(self, old: object, new: object, variable: str, field: FieldInfo) -> object:
        if old == new:
            return old
        if takes_restart(field):
            self.waiting.append(variable)
            return old
        self.taken.append(variable)
        return new

    def _apps(
        self, old: Mapping[str, AppSettings], new: Mapping[str, AppSettings]
    ) -> dict[str, AppSettings]:
        """Merge the apps of both; one that is added or removed waits for a restart."""
        self.waiting += [f"{APP_PREFIX}{app.upper()}__…" for app in sorted(old.keys() ^ new.keys())]
        return {
            app: AppSettings.model_validate(
                self.section(own, new[app], f"{APP_PREFIX}{app.upper()}__")
            )
            if app in new
            else own
            for app, own in old.items()
        }
