"""Backups under traffic, and on disks that are nearly full."""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import anyio
import pytest

from relay.cli.backup import FreeSpace
from relay.database.snapshot import open_snapshot
from relay.errors import CommandFailed, StoreFull
from relay.settings import load_settings
from tests.crash.accounting import Accounts, contradictions, imbalances
from tests.crash.crash_run import AGAIN_EVENTS, SETTLE_S, CrashRun, prepared
from tests.support.command_line import API_KEY, CommandLine
from tests.support.daemons import POLL_S, DaemonProcess, open_doors, running_daemon
from tests.support.disks import fill, small_disk
from tests.support.options import option

pytestmark = pytest.mark.slow

NAMES = ("outbox.db", "segments.db")
BEFORE = 300
"""Events answered before each backup."""

KEPT_BYTES = 8 << 20


@dataclass(frozen=True)
class Backup:
    """A backup, and what was known of the daemon when it was made.

    Attributes:
        folder: Where it is.
        acknowledged: Ids answered 200 before it was requested.
        meanwhile: Events answered while it was made.
        took_s: Duration of the command, its start included.
    """

    folder: Path
    acknowledged: frozenset[str]
    meanwhile: int
    took_s: float


@dataclass
class Keeper:
    """Makes one backup in each run of the daemon and then kills the daemon."""

    crashes: CrashRun
    root: Path
    backups: list[Backup] = field(default_factory=list)

    async def make_one(self, daemon: DaemonProcess) -> None:
        """Make a backup while some events wait and others leave."""
        await self.crashes.inspect(daemon)
        self.crashes.amplitude.faults.add("503", count=2)
        known = len(self.crashes.acknowledged)
        with anyio.fail_after(SETTLE_S):
            while len(self.crashes.acknowledged) < known + BEFORE:
                await anyio.sleep(POLL_S)
        before, began_s = frozenset(self.crashes.acknowledged), monotonic()
        folder = self.root / f"backup-{len(self.backups)}"
        done = await self.crashes.relay.run("backup", str(folder))
        assert (done.code, done.err) == (0, "")
        meanwhile = len(self.crashes.acknowledged) - len(before)
        self.backups.append(Backup(folder, before, meanwhile, monotonic() - began_s))
        daemon.kill()
        await daemon.ended()


async def restored(crashes: CrashRun, backup: Backup) -> list[str]:
    """Start a daemon on a backup and drain it; return what does not add up."""
    relay = CommandLine(backup.folder.with_name(f"{backup.folder.name}-restored"))
    place = {"RELAY_DATA_DIR", "RELAY_LISTEN", "RELAY_ADMIN_LISTEN"}
    relay.env |= {name: text for name, text in crashes.relay.env.items() if name not in place}
    relay.folder.mkdir(mode=0o700, parents=True)
    for name in NAMES:
        shutil.copy(backup.folder / name, relay.folder / name)
    names = sorted(backup.acknowledged)
    known = 0
    async with open_doors(relay) as doors, running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        counts = await doors.drained()
        dead = await doors.dead_letters()
        for first in range(0, len(names), AGAIN_EVENTS):
            bodies = [crashes.traffic.bodies[name] for name in names[first : first + AGAIN_EVENTS]]
            status, answer = await doors.post(b"[%b]" % b",".join(bodies))
            assert status == 200
            known += answer["duplicate"]
    accounts = Accounts(
        attempted=crashes.stream.oracle.attempted,
        acknowledged=backup.acknowledged,
        held=crashes.amplitude.ledger.account(API_KEY).insert_ids,
        dead=dead,
    )
    unknown = [] if known == len(names) else [f"{len(names) - known} are not recognised"]
    return contradictions(counts) + imbalances(accounts) + unknown


async def test_what_was_answered_before_a_backup_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also under traffic, and with the daemon killed right after it."""
    times = option("BACKUPS", 3)
    async with prepared(tmp_path, option("CRASH_SEED", 20261124)) as crashes:
        keeper = Keeper(crashes, tmp_path)
        outcome = await crashes.run([keeper.make_one] * times)
        assert crashes.wrong + imbalances(outcome.accounts) == []
        for backup in keeper.backups:
            assert await restored(crashes, backup) == []
        assert crashes.amplitude.ledger.violation_counts == {}
        assert "503" not in crashes.stream.oracle.answers
    meanwhile = [backup.meanwhile for backup in keeper.backups]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{times} backups of up to {len(keeper.backups[-1].acknowledged)} events, restored"
            f" and drained; {min(meanwhile)} to {max(meanwhile)} events answered while one was "
            f"made, which took {max(backup.took_s for backup in keeper.backups):.1f} s at most\n"
        )
    assert min(meanwhile) > 0


async def test_a_backup_that_does_not_fit_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """Neither at its target nor on the daemon's disk, whose space is for events."""
    relay = CommandLine(tmp_path)
    assert (await relay.run("forget", "shop", "nobody")).code == 0
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        done = await relay.run("backup", str(disk / "backup"))
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"relay: no room in {disk / 'backup'}: the backup takes ")
        assert [path.name for path in disk.iterdir()] == ["other people's data"]
    with small_disk(tmp_path / "small") as disk:
        cramped = CommandLine(disk, RELAY_OUTBOX__MIN_FREE_BYTES=str(64 << 20))
        assert (await cramped.run("forget", "shop", "nobody")).code == 0
        (disk / "other people's data").write_bytes(bytes(32 << 20))
        done = await cramped.run("backup", str(disk / "backup"))
        assert (done.code, done.err) == (0, "")


async def test_a_disk_that_fills_up_during_a_copy_is_reported(tmp_path: Path) -> None:
    """Another program fills the disk after free space was checked."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        pass
    with (
        small_disk(tmp_path / "disk") as disk,
        open_snapshot(relay.folder / "segments.db") as snapshot,
    ):
        fill(disk)
        with pytest.raises(StoreFull, match=r"^segments\.db cannot be copied"):
            snapshot.copy_to(disk / "copy.db", lambda _: None)


def test_a_backup_gives_way_when_the_daemons_disk_becomes_short(tmp_path: Path) -> None:
    """The write-ahead log grows during a backup; events come before backups."""
    with small_disk(tmp_path / "disk") as disk:
        (disk / "data").mkdir()
        prefix = "RELAY_APPS__SHOP__"
        settings = load_settings(
            environ={
                "RELAY_DATA_DIR": str(disk / "data"),
                "RELAY_OUTBOX__MIN_FREE_BYTES": str(KEPT_BYTES),
                f"{prefix}ONESIGNAL_APP_ID": "11111111-2222-4333-8444-555555555555",
                f"{prefix}WEBHOOK_TOKENS": "a",
                f"{prefix}AMPLITUDE_API_KEY": "b",
            }
        )
        room = FreeSpace(tmp_path, settings)
        room.watch()
        filler = fill(disk)
        with pytest.raises(CommandFailed, match="log grows while a backup is made"):
            room.watch()
        filler.unlink()
        room.watch()
