"""`relay check` over real folders, files and sockets."""

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from relay.sandbox.amplitude import AmplitudeStandIn, running
from tests.support.command_line import API_KEY, SECRETS, CommandLine


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_nothing_is_made_before_the_first_start(tmp_path: Path) -> None:
    """A missing data directory is well, and is missing afterwards."""
    relay = CommandLine(tmp_path)
    done = await relay.run("check")
    assert (done.code, done.err) == (0, "")
    assert all(line.startswith("ok ") for line in done.out.splitlines())
    assert not relay.folder.exists()


async def test_a_database_at_rest_is_read_without_a_trace(tmp_path: Path) -> None:
    """SQLite would put its log's files beside it."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        pass
    before = contents(relay.folder)
    done = await relay.run("check")
    assert done.code == 0
    assert "whole" in done.out
    assert contents(relay.folder) == before


async def test_a_log_without_its_index_is_left_to_the_daemon(tmp_path: Path) -> None:
    """To read it, SQLite would have to make the index."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        copy = {name: (relay.folder / name).read_bytes() for name in ("outbox.db", "outbox.db-wal")}
    for name, raw in copy.items():
        (relay.folder / name).write_bytes(raw)
    before = contents(relay.folder)
    done = await relay.run("check")
    assert done.code == 0
    assert "has a log without its index" in done.out
    assert contents(relay.folder) == before


async def test_doors_of_a_running_relay_are_well(tmp_path: Path) -> None:
    """A check is made beside a daemon as often as before its start."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        done = await relay.run("check")
    assert done.code == 0
    assert done.out.count("held by a relay that runs") == 2


async def test_a_door_held_by_another_program_is_named(tmp_path: Path) -> None:
    """A program that is no relay would keep relay from starting."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        taken = f"127.0.0.1:{door.getsockname()[1]}"
        done = await CommandLine(tmp_path, RELAY_LISTEN=taken).run("check")
    assert (done.code, done.err) == (1, "relay: failed: public door\n")
    assert f"{taken} is in use by another program" in done.out


async def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    """192.0.2.1 belongs to nobody (RFC 5737)."""
    done = await CommandLine(tmp_path, RELAY_LISTEN="192.0.2.1:8080").run("check")
    assert (done.code, done.err) == (1, "relay: failed: public door\n")


async def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """Not even the superuser can store events in it."""
    (tmp_path / "data").write_text("a file")
    done = await CommandLine(tmp_path).run("check")
    assert done.code == 1
    assert "data directory" in done.err
    assert f"{tmp_path / 'data'} is no folder" in done.out


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """It stays as it is, too."""
    relay = CommandLine(tmp_path)
    relay.folder.mkdir()
    (relay.folder / "outbox.db").write_bytes(b"not a database, but long enough to look at" * 20)
    before = contents(relay.folder)
    done = await relay.run("check")
    assert (done.code, done.err) == (1, "relay: failed: outbox.db\n")
    assert contents(relay.folder) == before


async def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    """Pages of zeros in the middle are what a bad disk leaves."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        pass
    file = relay.folder / "outbox.db"
    raw = bytearray(file.read_bytes())
    raw[8_192:16_384] = bytes(8_192)
    file.write_bytes(raw)
    done = await relay.run("check")
    assert (done.code, done.err) == (1, "relay: failed: outbox.db\n")
    assert "damaged" in done.out


async def test_a_database_of_a_later_relay_is_named(tmp_path: Path) -> None:
    """The daemon would refuse it."""
    relay = CommandLine(tmp_path)
    relay.folder.mkdir()
    with closing(sqlite3.connect(relay.folder / "outbox.db")) as raw:
        raw.execute("PRAGMA user_version = 999")
    done = await relay.run("check")
    assert (done.code, done.err) == (1, "relay: failed: outbox.db\n")
    assert "has schema 999" in done.out


async def test_a_key_that_amplitude_knows_is_well(tmp_path: Path) -> None:
    """And asking sends it no event."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        origin = str(url).rstrip("/")
        relay = CommandLine(tmp_path, RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=origin)
        done = await relay.run("check", "--online")
    assert (done.code, done.err) == (0, "")
    assert f"Amplitude key of shop  known ({origin})" in done.out
    assert amplitude.ledger.total_events == 0


async def test_a_key_that_amplitude_does_not_know_is_named_but_not_shown(tmp_path: Path) -> None:
    """Amplitude repeats the key in its answer; relay does not."""
    async with running(AmplitudeStandIn().app()) as url:
        origin = str(url).rstrip("/")
        relay = CommandLine(tmp_path, RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=origin)
        done = await relay.run("check", "--online")
    assert (done.code, done.err) == (1, "relay: failed: Amplitude key of shop\n")
    assert f"unknown ({origin})" in done.out
    assert not any(secret in done.out + done.err for secret in SECRETS)
