"""Tests and their children run in the same surroundings, however the run was started."""

import os
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["tests.support.launch"]'
CHILD = """
    import os, signal

    for name in ("SIGINT", "SIGHUP", "SIGTERM", "SIGCHLD"):
        print(name, signal.getsignal(getattr(signal, name)) == signal.SIG_IGN)
    print("blocked", len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    print("umask", oct(os.umask(0)))
    print("environment", sorted(name for name in os.environ if "RELAY" in name or "NOTIFY" in name))
"""
PROBE = """
    import os, signal, subprocess, sys

    def test_probe():
        subprocess.run([sys.executable, "child.py"], check=True)
        os.kill(os.getpid(), signal.SIGINT)  # still ignored here
"""
HOSTILE = """
import os, signal, sys
for name in ("SIGINT", "SIGHUP", "SIGTERM", "SIGCHLD"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
os.umask(0o077)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
FOREIGN = {
    "RELAY_LISTEN": "elsewhere",
    "RELAY_APPS__X__COHORTS": "none",
    "NOTIFY_SOCKET": "/run/systemd/notify",
}


def test_nothing_harmful_is_inherited(
    pytester: pytest.Pytester, pytestconfig: pytest.Config
) -> None:
    """As under nohup, after `&` in a script, with umask 077, and in a systemd service."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\naddopts = -p no:schemathesis -p no:asyncio -p no:cov")
    pytester.makepyfile(child=CHILD, test_probe=PROBE)
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, "-m", "pytest", "-s"],
        env={**os.environ, **FOREIGN, "PYTHONPATH": str(pytestconfig.rootpath)},  # noqa: TID251
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    for line in (
        *("SIGINT False", "SIGHUP False", "SIGTERM False", "SIGCHLD False"),
        *("blocked 0", "umask 0o22", "environment []"),
    ):
        assert f"{line}\n" in done.stdout
