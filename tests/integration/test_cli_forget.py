"""`relay forget`, with a daemon and without one."""

import json
import os
from pathlib import Path

import anyio
import pytest

from tests.support.command_line import CommandLine, ended
from tests.support.outboxes import append, census, counts, mapped, running_outbox
from tests.support.segment_tables import SegmentFile
from tests.unit.cli.filled import COHORT, filled

WAYS = pytest.mark.parametrize("way", ["daemon", "alone"])


@WAYS
async def test_a_user_is_erased_everywhere(tmp_path: Path, way: str) -> None:
    """In the segment, the directory and pending events, for good."""
    async with filled(tmp_path, "alone") as relay:
        async with running_outbox(relay.folder, ["shop"]) as outbox:
            await append(outbox, mapped("a", user_id="two"), mapped("b", user_id="one"), app="shop")
        if way == "alone":
            done = await relay.run("forget", "SHOP", "two")
        else:
            async with relay.serving():
                done = await relay.run("forget", "shop", "two")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("the user is forgotten in shop, and stays so; ")
        assert SegmentFile(relay.folder).members(COHORT) == ["bare", "one", "silent"]
        assert SegmentFile(relay.folder).look("SELECT count(*) FROM users") == [(3,)]
        assert SegmentFile(relay.folder).look("SELECT count(*) FROM forgotten") == [(1,)]
        assert census(relay.folder, "shop").pending == ["b"]
        async with running_outbox(relay.folder, ["shop"]) as outbox:
            assert (await counts(outbox, "shop")).discarded == 1


async def test_an_unknown_user_is_erased_too(tmp_path: Path) -> None:
    """For later input; the databases are created for it."""
    relay = CommandLine(tmp_path)
    done = await relay.run("forget", "shop", "who?/../ever")
    assert (done.code, done.err) == (0, "")
    assert SegmentFile(relay.folder).look("SELECT count(*) FROM forgotten") == [(1,)]


async def test_at_a_terminal_it_asks_first(tmp_path: Path) -> None:
    """It cannot be undone; `--yes` answers in advance."""
    person, terminal = os.openpty()
    async with filled(tmp_path, "alone") as relay:
        async with await relay.start("forget", "shop", "two", stdin=terminal) as command:
            assert command.stderr is not None
            with anyio.fail_after(20):
                asked = b""
                while b"[y/N]" not in asked:
                    asked += await command.stderr.receive()
            os.write(person, b"n\n")
            assert await ended(command) == 1
        assert "two" in SegmentFile(relay.folder).members(COHORT)
        async with await relay.start("forget", "shop", "two", "-y", stdin=terminal) as command:
            assert await ended(command) == 0
        assert "two" not in SegmentFile(relay.folder).members(COHORT)
    os.close(person)
    os.close(terminal)


async def test_an_unknown_app_is_named(tmp_path: Path) -> None:
    """Before any database is opened."""
    relay = CommandLine(tmp_path)
    done = await relay.run("forget", "nobody", "two")
    assert (done.code, done.err) == (
        1,
        "relay: no app 'nobody' is configured; there are: shop\n",
    )
    assert not relay.folder.exists()


async def test_the_app_is_required(tmp_path: Path) -> None:
    """No user is erased by a guess."""
    assert (await CommandLine(tmp_path).run("forget", "two")).code == 2


async def test_a_daemon_lets_nothing_of_the_user_in_again(tmp_path: Path) -> None:
    """The directory does not learn the user again."""
    async with filled(tmp_path, "daemon") as relay:
        assert (await relay.run("forget", "shop", "two")).code == 0
        file = tmp_path / "users.csv"
        header = "id,device_type,invalid_identifier,external_user_id"
        file.write_text(f"{header}\ns1,0,f,two\ns2,0,f,three\n")
        assert (await relay.run("directory", "import", str(file))).code == 0
        shown = await relay.run("directory", "show", "--json")
        assert json.loads(shown.out)["users"] == 4
        assert (await relay.run("directory", "show", "two")).code == 1
