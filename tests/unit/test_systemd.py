"""What the service manager receives, over a real socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.process.systemd import Notifier, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Listen as systemd does; yield the NOTIFY_SOCKET value and the socket."""
    name = f"relay-test-{os.getpid()}-{tmp_path.name}"
    is_abstract = request.param == "abstract"
    shown = f"@{name}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}" if is_abstract else shown)
        listener.settimeout(5)
        yield shown, listener


def test_each_state_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    """The manager reads lines of NAME=value."""
    address, listener = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    sent = [
        notifier.ready("2 apps"),
        notifier.watchdog(),
        notifier.status("12 events wait"),
        notifier.stopping(),
    ]
    received = [listener.recv(4_096).decode() for _ in sent]
    assert sent == [True] * 4
    assert received == [
        "READY=1\nSTATUS=2 apps",
        "WATCHDOG=1",
        "STATUS=12 events wait",
        "STOPPING=1",
    ]


def test_status_cannot_smuggle_a_state(manager: tuple[str, socket.socket]) -> None:
    """A line break in a text would start another assignment."""
    address, listener = manager
    assert Notifier({"NOTIFY_SOCKET": address}).status("full\nMAINPID=1")
    assert listener.recv(4_096) == b"STATUS=full MAINPID=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_is_sent(environ: dict[str, str]) -> None:
    """On a terminal or in a container relay runs without it."""
    assert not Notifier(environ).ready()


def test_unreachable_manager_is_logged_and_survived(tmp_path: Path) -> None:
    """A lost notification is for the manager's own timeouts to judge."""
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")})
    with capture_logs() as logged:
        assert not notifier.ready()
    assert logged == [
        {
            "event": "notification.dropped",
            "log_level": "warning",
            "state": "READY=1",
            "error": "[Errno 2] No such file or directory",
        }
    ]


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, None),
    ],
)
def test_watchdog_is_fed_twice_within_its_limit(
    environ: dict[str, str], interval_s: float | None
) -> None:
    """But only by the process it watches."""
    assert watchdog_interval_s(environ, pid=77) == interval_s


def test_watchdog_watches_this_process_by_default() -> None:
    """The manager names the process it started."""
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    assert watchdog_interval_s(environ) == 0.5
