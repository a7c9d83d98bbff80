"""From the environment to `Settings`, or to every mistake at once.

The environment wins over the file, the file over credentials. An empty value is a mistake where
one is required; elsewhere it means the default, and overrides a weaker source. White space around
a value is ignored.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from relay.errors import ConfigError
from relay.settings.describe import APP_PREFIX, PREFIX, find_setting, is_required, is_secret
from relay.settings.model import Settings
from relay.settings.sources import Layer, read_credentials, read_env_file, read_environment

_NO_APP: Final = (
    f"{APP_PREFIX}<APP>__…: no app is configured; wanted, with the app's name for <APP>, "
    f"{APP_PREFIX}<APP>__ONESIGNAL_APP_ID, {APP_PREFIX}<APP>__WEBHOOK_TOKENS "
    f"and {APP_PREFIX}<APP>__AMPLITUDE_API_KEY"
)
_LONGEST_SHOWN: Final = 100


def load_settings(
    *, environ: Mapping[str, str] | None = None, env_file: Path | None = None
) -> Settings:
    """Read and check the whole configuration.

    Args:
        environ: The environment; this process's own by default.
        env_file: A file of `NAME=value` lines.

    Raises:
        ConfigError: If anything is wrong, with one sentence per mistake.
    """
    if environ is None:
        environ = process_environment()
    layers = _read_layers(environ, env_file)
    values = {name: text for layer in layers for name, text in layer.values.items()}
    mistakes = [mistake for layer in layers for mistake in layer.mistakes]
    if not all(layer.is_read for layer in layers):
        raise ConfigError(mistakes)
    settings: Settings | None = None
    try:
        settings = Settings(**_VariablesSource(_with_defaults(values, environ))())
    except ValidationError as error:
        details = error.errors(include_url=False)
        mistakes += [_describe_mistake(detail, _secret_texts(values)) for detail in details]
    if settings is None or mistakes:
        raise ConfigError(mistakes)
    return settings


def process_environment() -> Mapping[str, str]:
    """Return this process's environment, for what is not a setting: systemd's variables."""
    return os.environ  # noqa: TID251  the one place that reads the environment


class _VariablesSource(EnvSettingsSource):
    """Sorts variables into sections and apps by pydantic-settings' own rules.

    `_load_env_vars` is a private hook of pydantic-settings; without the override it would read the
    process's environment instead of the merged layers.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {name.lower(): text for name, text in variables.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


def _read_layers(environ: Mapping[str, str], env_file: Path | None) -> tuple[Layer, ...]:
    """Read every source, the weakest first."""
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    return (
        read_credentials(Path(credentials)) if credentials else Layer(),
        read_env_file(env_file) if env_file is not None else Layer(),
        read_environment(environ),
    )


def _with_defaults(values: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Drop empty values of optional settings; choose the data directory."""
    given = {name: text for name, text in values.items() if text or is_required(name)}
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    folder = given.pop("RELAY_DATA_DIR", "") or state or "~/.local/state/relay"
    if folder.startswith("~/"):
        folder = _expand_home(folder, environ)
    return {**given, "RELAY_DATA_DIR": folder} if folder else given


def _expand_home(folder: str, environ: Mapping[str, str]) -> str:
    """Expand `~`; for a user without a home folder the setting becomes required."""
    try:
        return f"{environ.get('HOME') or Path.home()}{folder[1:]}"
    except RuntimeError:
        return ""


def _secret_texts(values: Mapping[str, str]) -> frozenset[str]:
    """Return all secrets given, so that none is shown even in a variable it does not belong to."""
    texts = [text for name, text in values.items() if is_secret(name)]
    return frozenset(part.strip() for text in texts for part in text.split(",")) - {""}


def _describe_mistake(detail: ErrorDetails, secrets: frozenset[str]) -> str:
    variable = PREFIX + "__".join(str(step) for step in detail["loc"]).upper()
    cause = detail.get("ctx", {}).get("error")
    reason = " ".join(str(cause).split()) if isinstance(cause, ValueError) else ""
    if variable == f"{PREFIX}APPS":
        return reason or _NO_APP
    if _tells(reason, secrets):
        reason = ""
    setting = find_setting(variable)
    wanted = reason or (setting.wanted if setting is not None else detail["msg"])
    given = "not set" if detail["type"] == "missing" else _show(variable, detail["input"], secrets)
    return f"{variable}: {given}; wanted {wanted}"


def _show(variable: str, value: object, secrets: frozenset[str]) -> str:
    """Quote what was given, unless it is secret or may be: a URL with a user, too."""
    if value is None:
        return "not set"
    if value == "":
        return "is empty"
    text = str(value)
    is_hidden = isinstance(value, SecretStr) or is_secret(variable)
    if is_hidden or "@" in text or _tells(text, secrets):
        return "got a value that is not shown"
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return f"got {shown!r}"


def _tells(text: str, secrets: frozenset[str]) -> bool:
    return any(secret in text for secret in secrets)
