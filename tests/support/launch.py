"""A pytest plugin that makes a run independent of how it was started.

A shell's `&` ignores SIGINT, nohup ignores SIGHUP, systemd passes sockets, a terminal passes its
width. What a process inherits is reset here, once, for the tests and for their children.
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
"""Prefixes of the variables that relay, Python or a program under test would obey."""

RESTORED: Final = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    signal.SIGCHLD,
)

MEMORY: Final = Path("/dev/shm")  # a file system, not a name in it
ROOM_BYTES: Final = 2 << 30


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Reset what was inherited, after pytest has set up its own output."""
    _restore_signals()
    _clear_environment()
    os.umask(0o022)
    if config.option.markexpr == "not slow":
        _use_memory()


def _restore_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in RESTORED:
        if signal.getsignal(number) is signal.SIG_IGN:
            # exec resets a handler to the default, but keeps SIG_IGN: with a handler that does
            # nothing, this process still ignores the signal and its children no longer do.
            signal.signal(number, signal.SIG_DFL if number is signal.SIGCHLD else _ignore)


def _ignore(*_: object) -> None:
    pass


def _clear_environment() -> None:
    for name in list(os.environ):  # noqa: TID251  # what children inherit
        if name.upper().startswith(FOREIGN):
            del os.environ[name]  # noqa: TID251
    os.environ["LANG"] = "C.UTF-8"  # noqa: TID251


def _use_memory() -> None:
    """Keep temporary files in memory if there is room; `TMPDIR` chooses another place.

    The fast tests sync thousands of times, and none of them is about the disk. The slow ones are:
    they stay on it.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):  # noqa: TID251
        return
    if shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)  # noqa: TID251
