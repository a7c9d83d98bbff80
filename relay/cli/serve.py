"""`relay serve`: the daemon."""

import gc
from functools import partial
from pathlib import Path

import anyio
import structlog
import typer

from relay.cli.exit_codes import FAILED, run
from relay.cli.options import EnvFile
from relay.daemon.reload import SettingsSource
from relay.daemon.run import Daemon, reload_on_signal, stop_on_signal
from relay.errors import RelayError
from relay.observability.logs import configure_logging
from relay.process.limits import keep_memory_private, raise_descriptor_limit
from relay.process.systemd import Notifier
from relay.settings import Settings, load_settings, process_environment

log = structlog.get_logger(__name__)

COLLECT_AFTER = 50_000
"""New objects before the garbage collector looks; Python's 700 suits a program of few."""


def serve(*, env_file: EnvFile = None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    keep_memory_private()
    settings = load_settings(env_file=env_file)
    configure_logging(settings.log_level, settings.log_format, secrets=settings.secret_values())
    raise_descriptor_limit()
    daemon = Daemon(
        settings,
        Notifier(process_environment()),
        source=_settings_source(settings, env_file),
    )
    _spare_collections()
    try:
        run(partial(_serve, daemon), use_uvloop=True)
    except (RelayError, OSError):
        raise
    except Exception as error:
        log.exception("relay.crashed")  # through the redaction; a bare traceback has none
        raise typer.Exit(FAILED) from error


def _spare_collections() -> None:
    """Have the garbage collector leave alone what lives as long as the process.

    Everything imported so far would be walked at each full collection: some 20 ms in which
    nothing is answered, several times a second under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


def _settings_source(settings: Settings, env_file: Path | None) -> SettingsSource:
    """Return where settings are read again; a secret once known never reaches the log."""
    secrets = set(settings.secret_values())

    def adopt(new: Settings) -> None:
        secrets.update(new.secret_values())
        configure_logging(new.log_level, new.log_format, secrets=secrets)

    return SettingsSource(partial(load_settings, env_file=env_file), adopt)


async def _serve(daemon: Daemon) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(stop_on_signal, daemon.stop, name="signals")
        group.start_soon(reload_on_signal, daemon.reload, name="reload signal")
        await daemon.run()
        group.cancel_scope.cancel()
