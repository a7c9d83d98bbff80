"""`relay serve`, its ends, and how any command fails when it cannot run."""

import signal
import socket
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from relay import __version__
from tests.support.command_line import SECRETS, CommandLine, ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_ordered_stop_is_no_failure(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C exit with 0."""
    async with CommandLine(tmp_path).serving() as daemon:
        daemon.send_signal(number)
        assert await ended(daemon) == 0


async def test_what_the_daemon_stores_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The data directory has users' ids."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        paths = [relay.folder, *relay.folder.iterdir()]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths}
    assert modes == dict.fromkeys(modes, 0)


async def test_what_a_command_stores_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Commands create the databases too, even in a folder open to others."""
    relay = CommandLine(tmp_path)
    relay.folder.mkdir(mode=0o755)
    assert (await relay.run("forget", "shop", "anna")).code == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in relay.folder.iterdir()}
    assert {"outbox.db", "segments.db"} <= modes.keys()
    assert modes == dict.fromkeys(modes, 0o600)


async def test_a_second_daemon_says_that_the_directory_is_in_use(tmp_path: Path) -> None:
    """One process per data directory."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        second = await relay.run("serve", RELAY_LISTEN="127.0.0.1:0", RELAY_ADMIN_LISTEN="[::1]:0")
    assert second.code == 1
    assert second.err == f"relay: the data directory {relay.folder} is in use by another relay\n"


async def test_a_port_in_use_is_reported_in_one_sentence(tmp_path: Path) -> None:
    """No traceback."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        taken = f"127.0.0.1:{door.getsockname()[1]}"
        done = await CommandLine(tmp_path, RELAY_LISTEN=taken).run("serve")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "in use" in done.err


async def test_a_database_of_a_later_relay_stops_the_start(tmp_path: Path) -> None:
    """An old relay would not understand it."""
    relay = CommandLine(tmp_path)
    relay.folder.mkdir()
    with closing(sqlite3.connect(relay.folder / "outbox.db")) as raw:
        raw.execute("PRAGMA user_version = 999")
    done = await relay.run("serve")
    assert done.code == 1
    assert done.err.startswith("relay: the database has schema 999")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("words", [("serve",), ("check",), ("status",), ("dead-letters", "list")])
async def test_a_wrong_configuration_is_a_line_per_mistake(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """All mistakes at once, nothing else, and no secret."""
    relay = CommandLine(tmp_path, RELAY_LISTENN="x", RELAY_LISTEN="nowhere")
    done = await relay.run(*words)
    assert (done.code, done.out) == (78, "")
    names = sorted(line.partition(":")[0] for line in done.err.splitlines())
    assert names == ["RELAY_LISTEN", "RELAY_LISTENN"]
    assert not any(secret in done.err for secret in SECRETS)


@pytest.mark.parametrize("is_before", [True, False])
async def test_a_settings_file_may_be_given_before_or_after_the_command(
    tmp_path: Path, *, is_before: bool
) -> None:
    """Users put it in both places."""
    file = tmp_path / "relay.env"
    file.write_text("RELAY_LOG_LEVEL=nonsense\n")
    option = ["--env-file", str(file)]
    words = [*option, "check"] if is_before else ["check", *option]
    done = await CommandLine(tmp_path).run(*words)
    assert done.code == 78
    assert done.err.startswith("RELAY_LOG_LEVEL: got 'nonsense'")


async def test_a_missing_settings_file_is_a_configuration_error(
    tmp_path: Path,
) -> None:
    """Named, with the reason."""
    done = await CommandLine(tmp_path).run("--env-file", "/nowhere", "check")
    assert done.code == 78
    assert done.err == "--env-file /nowhere: cannot be read: No such file or directory\n"


async def test_the_version_is_printed(tmp_path: Path) -> None:
    """The same version that Amplitude sees in `library`."""
    done = await CommandLine(tmp_path).run("--version")
    assert (done.code, done.out.split()[-1]) == (0, __version__)


@pytest.mark.parametrize("words", [(), ("serv",), ("check", "--bogus"), ("dead-letters", "show")])
async def test_wrong_usage_differs_from_failure(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Exit code 2, and a usage line."""
    done = await CommandLine(tmp_path).run(*words)
    assert done.code == 2
    assert "Usage: relay" in done.out + done.err
