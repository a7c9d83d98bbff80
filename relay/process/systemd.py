"""Notifications to systemd: ready, reloading, stopping, alive.

The packages for this have had no release for years, and the protocol is one datagram of
`NAME=value` lines, so it is implemented here. Nothing here reads the environment: the caller
passes it in.

Source: systemd's sd_notify(3) and sd_watchdog_enabled(3), version 252.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

import structlog

SEND_TIMEOUT_S: Final = 1.0

_PINGS_PER_LIMIT: Final = 2
_MICROSECONDS: Final = 1_000_000

log = structlog.get_logger(__name__)


class Notifier:
    """Sends states to the service manager, or nothing where there is none.

    A state that cannot be sent is logged and dropped: if it matters, the manager's own timeouts
    notice. Every method returns whether it was sent.

    Attributes:
        watchdog_s: How often the manager wants `watchdog`, None if it does not.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _parse_address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = watchdog_interval_s(environ)

    def ready(self, status: str = "") -> bool:
        """Report that the service is up; `status` is shown by `systemctl status`."""
        return self._send("READY=1", status)

    def reloading(self) -> bool:
        """Report that a reload has started; `ready` ends it."""
        return self._send("RELOADING=1")

    def stopping(self, status: str = "") -> bool:
        """Report that the service is stopping."""
        return self._send("STOPPING=1", status)

    def watchdog(self) -> bool:
        """Reset the manager's watchdog."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """Show one line in `systemctl status`."""
        return self._send("", text)

    def _send(self, state: str, status: str = "") -> bool:
        if not self._address:
            return False
        lines = [state] if state else []
        if status:
            lines.append(
                f"STATUS={' '.join(status.split())}"
            )  # a line break would start another state
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.settimeout(SEND_TIMEOUT_S)
                manager.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("notification.dropped", state=state or "STATUS", error=str(error))
            return False
        return True


def watchdog_interval_s(environ: Mapping[str, str], *, pid: int | None = None) -> float | None:
    """Return how often to send `WATCHDOG=1`: half of the time the manager allows.

    Args:
        environ: The environment as the manager set it.
        pid: The process that would send; this one if left out.

    Returns:
        Seconds, or `None` if the manager expects no heartbeat of this process.
    """
    expected_pid = environ.get("WATCHDOG_PID", "")
    if expected_pid and expected_pid != str(os.getpid() if pid is None else pid):
        return None
    allowed = environ.get("WATCHDOG_USEC", "")
    if not (allowed.isascii() and allowed.isdecimal() and int(allowed) > 0):
        return None
    return int(allowed) / _MICROSECONDS / _PINGS_PER_LIMIT


def _parse_address(text: str) -> str:
    """Return the address for `sendto`: a path, or NUL and a name for an abstract socket."""
    if text.startswith("@"):
        return f"\0{text[1:]}"
    return text if text.startswith("/") else ""
