"""The power is cut during the recovery of a damaged database: the next start completes it."""

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from shutil import copytree

import pytest

from relay.heartbeat import Heartbeat
from relay.outbox.store import DATABASE_NAME, lock_folder, open_outbox
from tests.crash.crash_run import EndlessTraffic
from tests.crash.power_loss import fates
from tests.crash.recording import CALLS, Recording
from tests.crash.test_power_loss import LONGEST_TEXT, restore
from tests.support.clocks import FakeClock
from tests.support.command_line import CommandLine
from tests.support.daemons import APP, fast_relay, open_doors, running_daemon
from tests.support.disks import small_disk
from tests.support.options import option
from tests.support.outboxes import census

pytestmark = pytest.mark.slow

EVENTS = 80
HEADER_BYTES = 16
"""Without them the file is not an SQLite database, though every row is there."""


async def test_a_power_cut_in_a_recovery_loses_nothing_more(tmp_path: Path) -> None:
    """A half-finished recovery is continued or restarted."""
    relay = fast_relay(tmp_path, "http://127.0.0.1:9")
    sent = await _accept_events(relay)
    with (relay.folder / DATABASE_NAME).open("r+b") as file:
        file.write(bytes(HEADER_BYTES))
    before = copytree(relay.folder, tmp_path / "before")
    trace = tmp_path / "trace"
    tracer = ["strace", "-D", "-f", "-q", "-y", "-s", str(LONGEST_TEXT), "-o", str(trace)]
    async with running_daemon(relay, under=[*tracer, "-e", f"trace={CALLS}"]) as daemon:
        await daemon.until("database.rescued")
        await daemon.until("relay.ready")
        daemon.kill()
        await daemon.ended()
    lines = trace.read_text(encoding="latin-1").splitlines()
    rng, wrongs = Random(option("POWER_SEED", 20261124)), list[str]()
    number = sum(1 for _ in _replay(before, relay.folder).play(lines))
    places = sorted(rng.choices(range(1, number), k=option("RESCUE_CUTS", 60)))
    with small_disk(tmp_path / "memory") as memory:
        recording = _replay(before, relay.folder)
        for place, _ in enumerate(recording.play(lines), start=1):
            for _ in range(places.count(place)):
                luck = rng.choice(fates(rng))
                restore(memory / "data", recording.disk.after_power_loss(luck, rng), rng)
                found = await _wrongs(memory / "data", sent)
                wrongs += [f"after moment {place}, {luck.name}: {wrong}" for wrong in found]
    assert wrongs == [], "\n".join(wrongs)


async def _accept_events(relay: CommandLine) -> Collection[str]:
    """Let a relay accept events that it cannot deliver; return their ids."""
    traffic = EndlessTraffic(13)
    sent = dict(traffic.one() for _ in range(EVENTS))
    async with open_doors(relay) as doors, running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        assert (await doors.post(b"[%b]" % b",".join(sent.values())))[0] == 200
        daemon.terminate()
        await daemon.ended()
    return sent.keys()


def _replay(before: Path, folder: Path) -> Recording:
    """Return a recording whose disk is in the state before the trace."""
    recording = Recording(folder)
    recording.disk.keep_folder()
    for path in before.iterdir():
        recording.disk.adopt(path.name, path.read_bytes())
    return recording


async def _wrongs(folder: Path, sent: Collection[str]) -> Sequence[str]:
    """Open what a power cut left as a start does; return what is wrong."""
    with lock_folder(folder):
        async with open_outbox(folder, [APP], max_events=1 << 30, heartbeat=Heartbeat(FakeClock())):
            pass
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as raw:
        wrongs = [line for (line,) in raw.execute("PRAGMA integrity_check") if line != "ok"]
    missing = set(sent) - set(census(folder, APP).pending)
    return [*wrongs, *([f"{len(missing)} events are lost"] if missing else [])]
