"""`relay directory`, with a daemon and without one."""

import gzip
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.command_line import CommandLine, ended
from tests.unit.cli.filled import COHORT, filled

WAYS = pytest.mark.parametrize("way", ["daemon", "alone"])

HEADER = "id,identifier,device_type,invalid_identifier,external_user_id,notification_types"

NEW = ("s1,secret-token,0,f,stranger,1", "s2,mail@example.com,11,t,stranger,-2", "s3,x,0,f,,1")


def export(folder: Path, rows: Sequence[str], *, name: str = "users.csv") -> str:
    """Write an export, compressed if its name says so, and return its path."""
    text = "\n".join([HEADER, *rows, ""]).encode()
    file = folder / name
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return str(file)


@asynccontextmanager
async def empty(root: Path, way: str) -> AsyncIterator[CommandLine]:
    """Return a relay without a data directory, with a daemon or without one."""
    relay = CommandLine(root)
    if way != "daemon":
        yield relay
        return
    async with relay.serving():
        yield relay


async def shown_user(relay: CommandLine, *words: str) -> Any:  # noqa: ANN401  # whatever is printed
    """Return the JSON that `directory show` prints."""
    done = await relay.run("directory", "show", "--json", *words)
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


@WAYS
@pytest.mark.parametrize("name", ["users.csv", "users.csv.gz"])
async def test_an_export_is_imported(tmp_path: Path, way: str, name: str) -> None:
    """The first import creates the table; only the summary is printed."""
    async with empty(tmp_path, way) as relay:
        done = await relay.run("directory", "import", export(tmp_path, NEW, name=name))
        assert (done.code, done.err) == (0, "")
        assert done.out == (
            "3 subscriptions read, of 1 users of shop; 1 without External ID were left out\n"
        )
        directory = await shown_user(relay)
        counts = directory["users"], directory["subscriptions"], directory["subscribed"]
        assert counts == (1, 2, 1)
        user = await shown_user(relay, "stranger")
        assert [(one["id"], one["subscribed"]) for one in user["subscriptions"]] == [
            ("s1", True),
            ("s2", False),
        ]


@WAYS
async def test_segments_follow_an_import(tmp_path: Path, way: str) -> None:
    """Users who become known enter the segments whose cohorts list them."""
    async with filled(tmp_path, way) as relay:
        await relay.run("directory", "import", export(tmp_path, NEW))
        user = await shown_user(relay, "stranger")
        assert [segment["cohort_id"] for segment in user["segments"]] == [COHORT]
        shown = (await relay.run("directory", "show", "stranger")).out
        assert "Email" in shown
        assert "Amplitude does not list the user in this cohort" in shown


@WAYS
async def test_a_replacing_import_is_authoritative(tmp_path: Path, way: str) -> None:
    """Users missing from the file are removed."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run("directory", "import", export(tmp_path, NEW), "--replace")
        assert (done.code, done.err) == (0, "")
        assert (await shown_user(relay))["users"] == 1
        assert (await shown_user(relay))["synced_at"] is not None


@WAYS
@pytest.mark.parametrize("text", ["<html></html>", "id,name\n1,2\n", ""])
async def test_an_invalid_file_is_rejected_whole(tmp_path: Path, way: str, text: str) -> None:
    """With the reason, and the directory unchanged."""
    file = tmp_path / "odd.csv"
    file.write_text(text)
    async with filled(tmp_path, way) as relay:
        before = await shown_user(relay)
        done = await relay.run("directory", "import", str(file), "--replace")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("relay: ")
        assert {**await shown_user(relay), "sync": None} == {**before, "sync": None}


@WAYS
async def test_a_large_file_is_streamed(tmp_path: Path, way: str) -> None:
    """It is larger than any other body a daemon accepts."""
    rows = [f"s{number},{'x' * 200},0,f,user-{number:07},1" for number in range(25_000)]
    file = export(tmp_path, rows)
    assert (await anyio.Path(file).stat()).st_size > 5_000_000
    async with empty(tmp_path, way) as relay:
        done = await relay.run("directory", "import", file)
        assert (done.code, done.err) == (0, "")
        assert (await shown_user(relay))["users"] == 25_000


async def test_at_a_terminal_a_replacing_import_is_asked_about(tmp_path: Path) -> None:
    """No cancels it; `--yes` answers in advance."""
    person, terminal = os.openpty()
    file = export(tmp_path, NEW)
    async with filled(tmp_path, "alone") as relay:
        command = await relay.start("directory", "import", file, "--replace", stdin=terminal)
        async with command:
            assert command.stderr is not None
            with anyio.fail_after(20):
                asked = b""
                while b"?" not in asked:
                    asked += await command.stderr.receive()
            os.write(person, b"n\n")
            assert await ended(command) == 1
        assert (await shown_user(relay))["users"] == 4
        words = ("directory", "import", file, "--replace", "--yes")
        async with await relay.start(*words, stdin=terminal) as command:
            assert await ended(command) == 0
        assert (await shown_user(relay))["users"] == 1
    os.close(person)
    os.close(terminal)


async def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    """Nothing is created for it."""
    relay = CommandLine(tmp_path)
    assert (await relay.run("directory", "import", str(tmp_path / "none.csv"))).code == 2
    assert not relay.folder.exists()


async def test_a_refresh_needs_the_daemon(tmp_path: Path) -> None:
    """The error says so."""
    relay = CommandLine(tmp_path)
    done = await relay.run("directory", "sync")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"relay: no relay is running on {relay.admin.removeprefix('http://')}\n"


async def test_a_refresh_without_a_key_is_rejected(tmp_path: Path) -> None:
    """The error names the setting."""
    async with empty(tmp_path, "daemon") as relay:
        done = await relay.run("directory", "sync")
    assert (done.code, done.out) == (1, "")
    assert "RELAY_APPS__SHOP__ONESIGNAL_API_KEY" in done.err


@WAYS
async def test_an_unknown_user_is_an_error(tmp_path: Path, way: str) -> None:
    """An unknown user is an error, not an empty result."""
    async with filled(tmp_path, way) as relay:
        done = await relay.run("directory", "show", "nobody")
    assert (done.code, done.out) == (1, "")
    assert "nobody" not in done.err


async def test_reading_creates_nothing(tmp_path: Path) -> None:
    """Reading does not create a data directory."""
    relay = CommandLine(tmp_path)
    assert (await shown_user(relay))["users"] == 0
    assert "never" in (await relay.run("directory", "show")).out
    assert not relay.folder.exists()
