"""The daemon is killed at the very call that would have written or synced."""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import anyio
import pytest

from relay.outbox.sql import MIGRATIONS as OUTBOX_MIGRATIONS
from relay.outbox.store import DATABASE_NAME as OUTBOX
from relay.segments.sql import MIGRATIONS as SEGMENTS_MIGRATIONS
from relay.segments.store import DATABASE_NAME as SEGMENTS
from tests.crash.accounting import imbalances, wrong_counts
from tests.crash.crash_run import CrashRun, prepared
from tests.support.command_line import CommandLine
from tests.support.daemons import DaemonProcess, fast_relay, open_doors, running_daemon
from tests.support.options import option

pytestmark = pytest.mark.slow

TRACER = ("strace", "-D", "-f", "-q")
"""Traces as a grandchild, so that the daemon is our own child."""

WRITES = "pwrite64,fdatasync,fsync,ftruncate,unlink"

MAX_RUN_S = 6.0
"""A daemon that has not reached its call by then is killed anyway."""

PLACES = (
    ("commit, written", "pwrite64", f"{OUTBOX}-wal", 200),
    ("commit, before the sync", "fdatasync", f"{OUTBOX}-wal", 150),
    ("checkpoint, written", "pwrite64", OUTBOX, 40),
    ("checkpoint, before the sync", "fdatasync", OUTBOX, 2),
    ("space given back", "ftruncate", OUTBOX, 2),
    ("directory, written", "pwrite64", f"{SEGMENTS}-wal", 40),
    ("directory, before the sync", "fdatasync", f"{SEGMENTS}-wal", 10),
)
"""Places to kill: a name, a call, a file, and the highest call number chosen."""

FIRST_CALLS = 242
"""Writing calls of a first start, and a few more."""


def killing(calls: str, number: int, path: Path | None = None) -> Sequence[str]:
    """Return a tracer that kills the process at the start of the `number`-th such call."""
    on = ("-P", str(path)) if path else ()
    return (*TRACER, *on, "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={number}")


async def test_a_kill_at_any_write_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a kill between any two calls all counts are correct."""
    rng = Random(option("CRASH_SEED", 20261125))
    processes = option("CRASH_WRITES", 21)
    async with prepared(tmp_path, rng.randrange(1 << 30)) as crashes:
        places = [PLACES[number % len(PLACES)] for number in range(processes)]
        tracers = [
            killing(call, rng.randint(1, last), crashes.relay.folder / file)
            for _, call, file, last in places
        ]
        met: list[str] = []
        ends = [partial(_until_killed, crashes, name, met) for name, *_ in places]
        outcome = await crashes.run(ends, tracers=tracers)
    with capsys.disabled():
        told = ", ".join(f"{name} {met.count(name)}" for name, *_ in PLACES)
        sys.stdout.write(f"\n{processes} processes ended at: {told}\n")
    assert imbalances(outcome.accounts) == []
    assert wrong_counts(outcome.counts, outcome.accounts) == []
    assert crashes.wrong == []
    assert outcome.again["duplicate"] == len(outcome.accounts.acknowledged)
    assert len(met) >= processes / 2


async def _until_killed(
    crashes: CrashRun, name: str, met: list[str], daemon: DaemonProcess
) -> None:
    """Run under traffic until killed at the chosen call, or for a while."""
    crashes.amplitude.faults.clear()
    with anyio.move_on_after(MAX_RUN_S):
        await daemon.ended()
        met.append(name)
    daemon.kill()
    await daemon.ended()


def _old(folder: Path) -> None:
    """Create databases of the first schema in a folder."""
    for name, scripts in ((OUTBOX, OUTBOX_MIGRATIONS), (SEGMENTS, SEGMENTS_MIGRATIONS)):
        with closing(sqlite3.connect(folder / name, isolation_level=None)) as raw:
            raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
            raw.execute("PRAGMA journal_mode=WAL")
            raw.executescript(f"BEGIN;\n{scripts[0]}\nPRAGMA user_version=1;\nCOMMIT;")


@pytest.mark.parametrize("beginning", ["nothing", "first schema"])
async def test_a_kill_while_the_databases_are_created_is_repaired(
    tmp_path: Path, beginning: str
) -> None:
    """The next start completes a first start or a migration from any point."""
    for number in range(1, FIRST_CALLS, option("CRASH_FIRST_CALLS_STEP", 20)):
        relay = fast_relay(tmp_path / str(number), "http://127.0.0.1:9")
        relay.folder.mkdir(parents=True, mode=0o700)
        if beginning == "first schema":
            _old(relay.folder)
        async with running_daemon(relay, under=killing(WRITES, number)) as daemon:
            reached_the_end = await daemon.reaches("relay.ready")
        await _starts_well(relay)
    assert reached_the_end  # so every earlier call was tried


async def _starts_well(relay: CommandLine) -> None:
    """Assert that a daemon starts on what the kill left, empty and intact."""
    async with running_daemon(relay) as daemon, open_doors(relay) as doors:
        await daemon.until("relay.ready")
        counts = await doors.counts()
        daemon.terminate()
        assert await daemon.ended() == 0
    assert counts.accepted == 0
    for name in (OUTBOX, SEGMENTS):
        with closing(sqlite3.connect(relay.folder / name)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
