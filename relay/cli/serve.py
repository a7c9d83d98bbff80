"""`relay serve`: the daemon."""

import os
import sys

import anyio

from relay.daemon import Daemon, Supervision, stop_on_signal
from relay.logs import configure_logging
from relay.settings import load_settings
from relay.systemd import Notifier, watchdog_interval_s


def serve() -> None:
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, secrets=settings.secret_values())
    environ = os.environ
    daemon = Daemon(settings, Supervision(Notifier(environ), watchdog_interval_s(environ)))

    async def run() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stop_on_signal, daemon.stop)
            await daemon.run()
            group.cancel_scope.cancel()

    os.umask(0o077)
    anyio.run(run)
