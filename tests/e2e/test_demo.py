"""`relay demo` as an operator runs it: a process, its output, its exit code."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import anyio
import pytest

from tests.support.sabotages import CREDULOUS, GULLIBLE

pytestmark = pytest.mark.slow

DEADLINE_S = 90.0
PROVEN = "Every promise held"


def environment(temporary: Path, **changes: str) -> Mapping[str, str]:
    """Return an environment whose temporary folder is `temporary`."""
    return {**os.environ, "TMPDIR": str(temporary), **changes}  # noqa: TID251


def sabotage(root: Path, code: str) -> str:
    """Return a `PYTHONPATH` folder that makes every `relay serve` run `code` first."""
    site = root / "site"
    site.mkdir()
    head = "import sys\nif sys.orig_argv[-1] == 'serve':\n    "
    (site / "sitecustomize.py").write_text(head + code.strip() + "\n")
    return str(site)


async def test_the_demo_proves_every_promise_and_leaves_nothing(tmp_path: Path) -> None:
    """Whatever the environment configures, and within a minute."""
    env = environment(tmp_path, RELAY_LISTEN="nonsense", RELAY_UNKNOWN="x")
    with anyio.fail_after(DEADLINE_S):
        done = await anyio.run_process(
            [sys.executable, "-m", "relay", "demo"], env=env, check=False, stderr=subprocess.STDOUT
        )
    printed = done.stdout.decode()
    assert done.returncode == 0, printed
    assert PROVEN in printed
    assert "BROKEN" not in printed
    assert len(re.findall(r"^ *held ", printed, re.MULTILINE)) >= 27
    acts = re.findall(r"^(\d+)\. ", printed, re.MULTILINE)
    assert acts == [str(number) for number in range(1, 17)]
    assert list(tmp_path.iterdir()) == []


async def test_a_demo_that_is_interrupted_proves_nothing(tmp_path: Path) -> None:
    """Ctrl-C is no success, stops relay too and leaves nothing behind."""
    process = await anyio.open_process(
        [sys.executable, "-m", "relay", "demo"],
        env=environment(tmp_path),
        stderr=subprocess.STDOUT,
    )
    async with process:
        assert process.stdout is not None
        printed = bytearray()
        with anyio.fail_after(DEADLINE_S):
            while not (found := re.search(rb"relay is process (\d+)", printed)):
                printed += await process.stdout.receive()
            process.send_signal(signal.SIGINT)
            async for chunk in process.stdout:
                printed += chunk
            assert await process.wait() == 1
    assert b"nothing is proven" in printed
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)


async def test_a_relay_that_does_not_start_is_reported_with_its_last_output(tmp_path: Path) -> None:
    """Its folder is kept for diagnosis."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    env = environment(
        folder, PYTHONPATH=sabotage(tmp_path, "sys.exit('this machine has no relay')")
    )
    with anyio.fail_after(DEADLINE_S):
        done = await anyio.run_process(
            [sys.executable, "-m", "relay", "demo"], env=env, check=False, stderr=subprocess.STDOUT
        )
    printed = done.stdout.decode()
    assert done.returncode == 1, printed
    assert "relay ended by itself" in printed
    assert "this machine has no relay" in printed
    assert len(list(folder.iterdir())) == 1


async def test_a_relay_that_loses_events_is_detected(tmp_path: Path) -> None:
    """The lost events are named, and the data is kept for diagnosis."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    env = environment(folder, PYTHONPATH=sabotage(tmp_path, CREDULOUS))
    with anyio.fail_after(DEADLINE_S):
        done = await anyio.run_process(
            [sys.executable, "-m", "relay", "demo"], env=env, check=False, stderr=subprocess.STDOUT
        )
    printed = done.stdout.decode()
    assert done.returncode == 1, printed
    assert re.search(r"BROKEN +1 +Every event answered 200 .*: shop: [0-9a-f-]{36}", printed)
    assert len(list(folder.iterdir())) == 1


async def test_a_relay_that_trusts_every_file_is_detected(tmp_path: Path) -> None:
    """A file without members empties the segment, as another program sees."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    env = environment(folder, PYTHONPATH=sabotage(tmp_path, GULLIBLE))
    with anyio.fail_after(DEADLINE_S):
        done = await anyio.run_process(
            [sys.executable, "-m", "relay", "demo", "--events", "1000"],
            env=env,
            check=False,
            stderr=subprocess.STDOUT,
        )
    printed = done.stdout.decode()
    assert done.returncode == 1, printed
    assert re.search(r"BROKEN +3 +Another program saw whole revisions", printed), printed
    assert "seen empty after it had members" in " ".join(printed.split())
    assert re.search(r"held +1 +Every event answered 200", printed)


async def test_a_kept_demo_runs_until_ctrl_c(tmp_path: Path) -> None:
    """Relay and the stand-ins keep running; afterwards nothing is left."""
    process = await anyio.open_process(
        [sys.executable, "-m", "relay", "demo", "--keep", "--events", "1000"],
        env=environment(tmp_path),
        stderr=subprocess.STDOUT,
    )
    async with process, aiohttp.ClientSession() as session:
        assert process.stdout is not None
        printed = bytearray()
        with anyio.fail_after(DEADLINE_S):
            while b"/members" not in printed:
                printed += await process.stdout.receive()
            for url in re.findall(r"^  curl (http\S+)$", printed.decode(), re.MULTILINE):
                async with session.get(url) as answer:
                    assert answer.status == 200, url
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    assert PROVEN in printed.decode()
    assert list(tmp_path.iterdir()) == []
