"""Every setting of relay: its type, default, bounds and a sentence about it.

A field's path is its variable: `Settings.delivery.linger_s` is `RELAY_DELIVERY__LINGER_S`.
Nothing here reads the environment; `relay.settings.load` does, and hands the values in.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from relay.settings.app import AppSettings
from relay.settings.sections import (
    MAX_UPLOAD_BYTES,
    CohortSettings,
    DeliverySettings,
    DirectorySettings,
    OutboxSettings,
)
from relay.settings.values import ADDRESS, FILE, LOWER_CASE, RESTART, SECRET, Address, Hint

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]


class Settings(BaseSettings):
    """The whole configuration, validated.

    Made by `relay.settings.load_settings`; built directly only in tests. It never reads the
    environment itself.
    """

    model_config = SettingsConfigDict(
        env_prefix="RELAY_",
        env_nested_delimiter="__",
        enable_decoding=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    data_dir: Annotated[
        Path, Hint("a folder", default="$STATE_DIRECTORY, else ~/.local/state/relay"), RESTART
    ] = Field(description="The folder that holds outbox.db and segments.db.")
    listen: Annotated[Address, *ADDRESS, RESTART] = Field(
        Address("127.0.0.1", 8080), description="The public door: webhooks, uploads and health."
    )
    admin_listen: Annotated[Address, *ADDRESS, RESTART] = Field(
        Address("127.0.0.1", 8081),
        description="The admin door: dashboard, admin API, metrics and health.",
    )
    admin_token: Annotated[SecretStr | None, *SECRET] = Field(
        None,
        validate_default=True,
        description="Bearer token of the admin door; required unless that door is on loopback.",
    )
    tls_cert_file: Annotated[Path | None, FILE, RESTART] = Field(
        None, description="The public door's certificate chain in PEM: the door then speaks TLS."
    )
    tls_key_file: Annotated[Path | None, FILE, RESTART] = Field(
        None, validate_default=True, description="Its private key in PEM, not encrypted."
    )
    admin_tls_cert_file: Annotated[Path | None, FILE, RESTART] = Field(
        None, description="The admin door's certificate chain in PEM: the door then speaks TLS."
    )
    admin_tls_key_file: Annotated[Path | None, FILE, RESTART] = Field(
        None, validate_default=True, description="Its private key in PEM, not encrypted."
    )
    log_level: Annotated[LogLevel, LOWER_CASE] = Field(
        "info", description="The least important lines to log."
    )
    log_format: Annotated[LogFormat, LOWER_CASE] = Field(
        "auto",
        description="Format of log lines on stdout: auto = console on a terminal, else json.",
    )
    outbox: OutboxSettings = OutboxSettings()
    delivery: DeliverySettings = DeliverySettings()
    cohorts: CohortSettings = CohortSettings()
    directory: DirectorySettings = DirectorySettings()
    apps: dict[str, AppSettings] = Field(min_length=1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  pydantic-settings passes them by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Accept values from the caller only: `load_settings` has read and checked them all."""
        return (init_settings,)

    def secret_values(self) -> frozenset[str]:
        """Return every secret in plain text, for the redaction of logs."""
        found: set[SecretStr | None] = {self.admin_token}
        for app in self.apps.values():
            found |= {app.amplitude_api_key, app.amplitude_secret_key, app.onesignal_api_key}
            found |= set(app.webhook_tokens)
        return frozenset(secret.get_secret_value() for secret in found if secret is not None)

    @field_validator("admin_listen")
    @classmethod
    def _doors_differ(cls, door: Address, info: ValidationInfo) -> Address:
        if door.port and door == info.data.get("listen"):
            raise ValueError("another address than RELAY_LISTEN has")
        return door

    @field_validator("admin_token")
    @classmethod
    def _token_guards_open_door(
        cls, token: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        door: Address | None = info.data.get("admin_listen")
        if token is None and door is not None and not door.is_loopback:
            raise ValueError(f"a token, as RELAY_ADMIN_LISTEN ({door}) is not on loopback")
        return token

    @field_validator("tls_key_file", "admin_tls_key_file")
    @classmethod
    def _key_goes_with_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        name = (info.field_name or "").replace("key", "cert")
        if (key is None) != (info.data.get(name) is None):
            raise ValueError(f"both it and RELAY_{name.upper()}, or neither")
        return key

    @field_validator("apps")
    @classmethod
    def _batches_fit_upload_apis(
        cls, apps: dict[str, AppSettings], info: ValidationInfo
    ) -> dict[str, AppSettings]:
        delivery: DeliverySettings = info.data.get("delivery", DeliverySettings())
        for name, app in apps.items():
            limit_bytes = MAX_UPLOAD_BYTES[app.amplitude_upload]
            if delivery.max_batch_bytes > limit_bytes:
                raise ValueError(
                    f"RELAY_DELIVERY__MAX_BATCH_BYTES: got '{delivery.max_batch_bytes}'; wanted "
                    f"at most {limit_bytes}, as RELAY_APPS__{name.upper()}__AMPLITUDE_UPLOAD is "
                    f"{app.amplitude_upload}"
                )
        return apps
