"""A pytest plugin: whoever starts the tests, and from where, they find the same surroundings.

A shell script's `&` ignores SIGINT, nohup ignores SIGHUP, systemd tells of its sockets, a terminal
of its width. All that a process inherits is set here, once, for the tests and their children.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final

import pytest

FOREIGN: Final = (
    *("RELAY_", "LC_", "LANGUAGE", "XDG_", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONIOENCODING"),
    *("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY", "SSL_CERT_", "NODE_"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "TTY_", "PY_COLORS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
"""How names begin that say something to relay, to Python, or to a program the tests run."""

HEEDED: Final = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    signal.SIGCHLD,
)

MEMORY: Final = Path("/dev/shm")  # a file system, not a name in it
ROOM_BYTES: Final = 2 << 30


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set what would be inherited; last, so that pytest's own output is as its user wants it."""
    _heed_signals()
    _clear_environment()
    os.umask(0o022)
    if config.option.markexpr == "not slow":
        _write_into_memory()


def _heed_signals() -> None:
    """Have children take signals again that this process was started to ignore."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in HEEDED:
        if signal.getsignal(number) is signal.SIG_IGN:
            # A handler of our own goes at exec, SIG_IGN would stay; this process ignores as before.
            signal.signal(number, signal.SIG_DFL if number is signal.SIGCHLD else _ignore)


def _ignore(*_: object) -> None:
    pass


def _clear_environment() -> None:
    for name in list(os.environ):  # noqa: TID251  # what children inherit
        if name.upper().startswith(FOREIGN):
            del os.environ[name]  # noqa: TID251
    os.environ |= {"LANG": "C.UTF-8"}  # noqa: TID251


def _write_into_memory() -> None:
    """Keep temporary files in memory where there is room.

    The fast tests sync thousands of times; what a sync is worth on a disk, and a disk's own
    failures, are for the slow ones. `TMPDIR` chooses another place.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):  # noqa: TID251
        return
    if shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)  # noqa: TID251
