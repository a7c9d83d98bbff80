"""A daemon over damaged files: it recovers alone, reports what it lost, and never loops."""

import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import orjson
import pytest

from relay.database.counters_sidecar import sidecar_path
from relay.database.recovery.archive import find_archived
from tests.support.command_line import CommandLine, Finished
from tests.support.daemons import DaemonProcess, open_doors, running_daemon
from tests.support.relays import event

pytestmark = pytest.mark.slow

PAGE_BYTES = 4096
EVENTS = 40


def _zero(database: Path, table: str) -> None:
    """Zero the page where a table begins."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as raw:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (root,) = raw.execute(query, (table,)).fetchone()
    with database.open("r+b") as file:
        file.seek((root - 1) * PAGE_BYTES)
        file.write(bytes(PAGE_BYTES))


async def _fill(relay: CommandLine) -> None:
    """Let a daemon accept events that it cannot deliver, and stop it in order."""
    async with running_daemon(relay) as daemon, open_doors(relay) as doors:
        await daemon.until("relay.ready")
        status, counts = await doors.post(orjson.dumps([event(n) for n in range(EVENTS)]))
        assert (status, counts["accepted"]) == (200, EVENTS)
        daemon.terminate()
        assert await daemon.ended() == 0


async def _counts(relay: CommandLine) -> dict[str, int]:
    """Return the counts of a running daemon, asserting that they add up."""
    url = f"{relay.admin}/api/v1/status"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        counts: dict[str, int] = (await answer.json())["apps"]["shop"]
    parts = sum(counts[name] for name in ("pending", "delivered", "dead", "discarded"))
    assert counts["accepted"] == parts
    return counts


def _is_clear(daemon: DaemonProcess) -> bool:
    return b"Traceback" not in daemon.errors and not daemon.logged("relay.crashed")


async def test_a_damaged_outbox_is_recovered_at_the_start(tmp_path: Path) -> None:
    """Events that cannot be read are lost, are counted, and are reported to the operator."""
    relay = CommandLine(tmp_path)
    await _fill(relay)
    database = relay.folder / "outbox.db"
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size * 3 // 4)
    before = {file.name: file.read_bytes() for file in relay.folder.iterdir()}
    found = await relay.run("check")
    assert found.code == 1
    assert "the next start sets it aside" in " ".join(found.out.split())
    assert {file.name: file.read_bytes() for file in relay.folder.iterdir()} == before
    async with running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        (line,) = daemon.logged("database.rescued")
        counts = await _counts(relay)
        shown = await relay.run("status")
    (aside,) = find_archived(database)
    assert line["kept_as"] == aside.path.name
    assert counts["accepted"] == EVENTS
    assert 0 < counts["lost"] == counts["discarded"] == aside.lost["shop"]
    assert f"shop: {counts['lost']} of the discarded events were lost" in _output_of(shown)
    assert _is_clear(daemon)
    found = await relay.run("check")
    assert found.code == 0
    assert f"set aside as {aside.path.name}" in _output_of(found)
    assert f"lost {counts['lost']} shop" in _output_of(found)


def _output_of(done: Finished) -> str:
    """Return a command's output without its line breaks."""
    return " ".join(done.out.split())


@pytest.mark.parametrize("tails", [("",), ("", "-wal", "-shm")])
async def test_a_database_that_was_removed_is_missed(
    tmp_path: Path, tails: tuple[str, ...]
) -> None:
    """The counters sidecar knows how much was in it."""
    relay = CommandLine(tmp_path)
    await _fill(relay)
    for tail in tails:
        (relay.folder / f"outbox.db{tail}").unlink(missing_ok=True)
    found = await relay.run("check")
    assert found.code == 1
    assert "is missing, but it was there" in _output_of(found)
    async with running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        counts = await _counts(relay)
    assert (counts["accepted"], counts["lost"]) == (EVENTS, EVENTS)


async def test_an_empty_folder_is_a_fresh_start(tmp_path: Path) -> None:
    """An operator who wants a fresh start removes everything."""
    relay = CommandLine(tmp_path)
    await _fill(relay)
    for file in (relay.folder / "outbox.db", sidecar_path(relay.folder / "outbox.db")):
        file.unlink()
    async with running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        assert (await _counts(relay))["accepted"] == 0
        assert not daemon.logged("database.rescued")


async def test_damage_met_while_running_ends_the_daemon_and_the_next_start_recovers_it(
    tmp_path: Path,
) -> None:
    """Nothing is trusted any more; what can be read is served again two seconds later."""
    relay = CommandLine(tmp_path)
    await _fill(relay)
    async with running_daemon(relay) as daemon, aiohttp.ClientSession() as http:
        await daemon.until("relay.ready")
        _zero(relay.folder / "outbox.db", "dead_letters")
        async with http.get(f"{relay.admin}/api/v1/dead-letters") as answer:
            assert answer.status >= 500
        assert await daemon.ended() == 1
    assert daemon.errors.startswith(b"relay: the database is damaged: ")
    assert daemon.errors.count(b"\n") == 1
    assert _is_clear(daemon)
    async with running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        assert len(daemon.logged("database.rescued")) == 1
        counts = await _counts(relay)
    assert (counts["pending"], counts["lost"]) == (EVENTS, 0)
    async with running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        assert not daemon.logged("database.rescued")
        assert (await _counts(relay))["pending"] == EVENTS


async def test_a_damaged_segment_table_is_recovered_at_the_start(tmp_path: Path) -> None:
    """The events do not wait for it."""
    relay = CommandLine(tmp_path)
    await _fill(relay)
    _zero(relay.folder / "segments.db", "users")
    async with running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        (line,) = daemon.logged("database.rescued")
        assert line["database"] == "segments.db"
        assert (await _counts(relay))["pending"] == EVENTS
    assert _is_clear(daemon)
