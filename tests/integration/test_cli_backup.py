"""`relay backup`, with a daemon and without one, and what its files are good for."""

import os
import pty
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import orjson
import pytest

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.support.command_line import API_KEY, SECRETS, CommandLine
from tests.support.daemons import fast_relay, open_doors, running_daemon
from tests.support.relays import event
from tests.unit.cli.filled import fill

NAMES = ("outbox.db", "segments.db")


def contents(file: Path) -> list[str]:
    """Return a database's content as SQL statements."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as raw:
        return [f"schema {raw.execute('PRAGMA user_version').fetchone()[0]}", *raw.iterdump()]


def names_in(folder: Path) -> set[str]:
    """Return the names of a folder's files."""
    return {path.name for path in folder.iterdir()}


async def with_both(root: Path) -> CommandLine:
    """Return a relay whose data directory has both databases, without a daemon."""
    relay = CommandLine(root)
    await fill(relay.folder)
    assert (await relay.run("forget", "shop", "nobody")).code == 0
    return relay


def restore(backup: Path, relay: CommandLine) -> None:
    """Restore a backup into an empty data directory, as the README says."""
    relay.folder.mkdir(mode=0o700, parents=True)
    for name in NAMES:
        shutil.copy(backup / name, relay.folder / name)


async def test_without_a_daemon_it_copies_what_there_is(tmp_path: Path) -> None:
    """Row by row and with its schema; the daemon's own files stay unchanged."""
    relay = await with_both(tmp_path)
    before = {name: (relay.folder / name).read_bytes() for name in NAMES}
    done = await relay.run("backup", str(tmp_path / "backup"))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1].endswith(f"in {tmp_path / 'backup'}")
    assert {name: (relay.folder / name).read_bytes() for name in NAMES} == before
    for name in NAMES:
        assert contents(tmp_path / "backup" / name) == contents(relay.folder / name)
    assert (await relay.run("check")).code == 0


async def test_two_files_are_the_whole_backup_and_for_their_owner_alone(tmp_path: Path) -> None:
    """Neither needs a log, so each can be read on a read-only disk."""
    relay = await with_both(tmp_path)
    folder = tmp_path / "some" / "backup"
    assert (await relay.run("backup", str(folder))).code == 0
    assert names_in(folder) == set(NAMES)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (modes, stat.S_IMODE(folder.stat().st_mode)) == ({0o600}, 0o700)
    for name in NAMES:
        assert (folder / name).read_bytes()[18:20] == b"\1\1"  # 2 would need a log
        with closing(sqlite3.connect(f"file:{folder / name}?immutable=1", uri=True)) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_what_waited_is_delivered_from_a_restored_backup(tmp_path: Path) -> None:
    """Once: events sent since the backup go again with the ids Amplitude deduplicates."""
    amplitude = AmplitudeStandIn([API_KEY])
    bodies = [orjson.dumps(event(number)) for number in range(40)]
    async with running(amplitude.app()) as url:
        relay = fast_relay(tmp_path, url)
        async with open_doors(relay) as doors, running_daemon(relay) as daemon:
            await daemon.until("relay.ready")
            for body in bodies[:10]:
                await doors.post(body)
            await doors.drained()
            amplitude.faults.add("503")
            for body in bodies[10:30]:
                assert (await doors.post(body))[0] == 200
            assert (await relay.run("backup", str(tmp_path / "backup"))).code == 0
            amplitude.faults.clear()
            for body in bodies[30:]:
                await doors.post(body)
            await doors.drained()
        restored = fast_relay(tmp_path / "again", url)
        restore(tmp_path / "backup", restored)
        async with open_doors(restored) as doors, running_daemon(restored) as daemon:
            await daemon.until("relay.ready")
            counts = await doors.drained()
            status, answer = await doors.post(b"[%b]" % b",".join(bodies[:30]))
    assert (counts.accepted, counts.delivered) == (30, 30)
    assert (status, answer["duplicate"]) == (200, 30)
    held = amplitude.ledger.account(API_KEY).insert_ids
    assert (len(held), len(set(held))) == (40, 40)
    assert amplitude.ledger.violation_counts == {}


async def test_a_removed_app_and_a_later_schema_are_copied_too(tmp_path: Path) -> None:
    """A backup copies whatever is stored; restoring it is where versions matter."""
    relay = await with_both(tmp_path)
    with closing(sqlite3.connect(relay.folder / "outbox.db")) as raw:
        raw.execute("PRAGMA user_version = 999")
        raw.commit()
    relay.add_app("other")
    gone = {name: text for name, text in relay.env.items() if "__SHOP__" not in name}
    relay.env.clear()
    relay.env.update(gone)
    done = await relay.run("backup", str(tmp_path / "backup"))
    assert (done.code, done.err) == (0, "")
    for name in NAMES:
        assert contents(tmp_path / "backup" / name) == contents(relay.folder / name)


@pytest.mark.parametrize("obstacle", [*NAMES, "data", "link", "file", "nothing"])
async def test_a_target_that_would_overwrite_data_is_rejected(
    tmp_path: Path, obstacle: str
) -> None:
    """With one sentence that says why, and nothing changed."""
    relay = CommandLine(tmp_path) if obstacle == "nothing" else await with_both(tmp_path)
    folder = tmp_path / "backup"
    match obstacle:
        case "data":
            folder, said = relay.folder, "is the data directory; name another folder"
        case "link":
            folder.symlink_to(relay.folder)
            said = "is the data directory; name another folder"
        case "file":
            folder.write_text("a file")
            said = "is no folder"
        case "nothing":
            said = f"there is nothing to back up: {relay.folder} holds no outbox.db"
        case name:
            folder.mkdir()
            (folder / name).write_text("an older backup")
            said = f"{folder / name} exists already; name an empty folder"
    before = names_in(folder) if folder.is_dir() else None
    done = await relay.run("backup", str(folder))
    assert (done.code, done.out) == (1, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert (names_in(folder) if folder.is_dir() else None) == before


@pytest.mark.parametrize("damage", ["page", "head"])
async def test_of_a_damaged_database_no_backup_is_kept(tmp_path: Path, damage: str) -> None:
    """A backup that looks whole would be trusted."""
    relay = await with_both(tmp_path)
    file = relay.folder / "outbox.db"
    raw = bytearray(file.read_bytes())
    if damage == "page":
        raw[8_192:16_384] = bytes(8_192)
    else:
        raw[:100] = b"x" * 100
    file.write_bytes(raw)
    done = await relay.run("backup", str(tmp_path / "backup"))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("relay: outbox.db ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "backup").exists()


async def test_leftovers_of_a_killed_backup_are_harmless(tmp_path: Path) -> None:
    """Its name is not that of a backup, and the next backup removes it."""
    relay = await with_both(tmp_path)
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / "outbox.db.partial").write_bytes(b"half" * 1_000)
    (folder / "outbox.db.partial-journal").write_bytes(b"half" * 1_000)
    assert (await relay.run("backup", str(folder))).code == 0
    assert names_in(folder) == set(NAMES)


async def test_a_progress_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    """On standard error, so that output can be redirected."""
    relay = await with_both(tmp_path)
    ours, theirs = pty.openpty()
    done = await anyio.run_process(
        [sys.executable, "-m", "relay", "backup", str(tmp_path / "backup")],
        env={**relay.env, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stderr=theirs,
    )
    shown = os.read(ours, 1 << 16)
    os.close(theirs)
    os.close(ours)
    assert b"copying" in shown
    assert b"copying" not in done.stdout
    assert not any(secret.encode() in shown + done.stdout for secret in SECRETS)


async def test_a_log_of_another_database_is_not_used_for_the_copy(tmp_path: Path) -> None:
    """SQLite would replay it into the copy at the first start."""
    relay = await with_both(tmp_path)
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / "outbox.db-wal").write_bytes(b"")
    done = await relay.run("backup", str(folder))
    assert done.code == 1
    assert "outbox.db-wal exists already" in done.err
