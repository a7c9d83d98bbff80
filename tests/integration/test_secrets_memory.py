"""The daemon's memory stays private."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.support.command_line import DEADLINE_S, CommandLine
from tests.support.daemons import running_daemon

WILLING = ("sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"')
"""Runs a command that leaves a core dump if it may."""


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
async def test_a_daemon_that_crashes_leaves_no_core(tmp_path: Path, number: signal.Signals) -> None:
    """Its memory has every key and undelivered events."""
    relay = CommandLine(tmp_path)
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(  # noqa: ASYNC220  its whole exit status is wanted
            [*WILLING, sys.executable, "-m", "relay", "serve"],
            env=relay.env,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=log,
        )
    with anyio.fail_after(DEADLINE_S):
        while b'"relay.ready"' not in (tmp_path / "log").read_bytes():
            await anyio.sleep(0.02)
    daemon.send_signal(number)
    _, status = await anyio.to_thread.run_sync(os.waitpid, daemon.pid, 0)
    daemon.returncode = status
    assert os.WTERMSIG(status) == number
    assert not os.WCOREDUMP(status)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "log"}


async def test_the_kernel_confirms_it(tmp_path: Path) -> None:
    """No core dump, and only root may inspect the process."""
    async with running_daemon(CommandLine(tmp_path), under=WILLING) as daemon:
        await daemon.until("relay.ready")
        proc = Path("/proc") / str(daemon.process.pid)
        limits = (proc / "limits").read_text().splitlines()
        (core,) = [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
        assert core == ["0", "0"]
        assert (proc / "environ").stat().st_uid == 0
        assert (proc / "stat").stat().st_mode & 0o777 == 0o444  # these figures are public
        assert (proc / "cmdline").read_bytes().split(b"\0")[1:] == [b"-m", b"relay", b"serve", b""]
