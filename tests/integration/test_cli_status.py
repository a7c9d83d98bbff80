"""`relay status`, `relay pause` and `relay resume`: they need the daemon."""

import json
import signal
from pathlib import Path

import pytest
from aiohttp import web

from relay.sandbox.common.listener import running
from tests.support.command_line import CommandLine, ended, read_until
from tests.unit.cli.filled import fill


@pytest.mark.parametrize("words", [("status",), ("status", "--watch"), ("pause",), ("resume",)])
async def test_a_missing_daemon_is_reported(tmp_path: Path, words: tuple[str, ...]) -> None:
    """With the address that was tried."""
    relay = CommandLine(tmp_path)
    done = await relay.run(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"relay: no relay is running on {relay.admin.removeprefix('http://')}\n"


async def test_status_as_json_is_the_api_s(tmp_path: Path) -> None:
    """Standard output has nothing else."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        done = await relay.run("status", "--json")
    assert (done.code, done.err) == (0, "")
    answer = json.loads(done.out)
    assert answer["ready"] is True
    assert answer["apps"]["shop"]["accepted"] == 0


async def test_status_is_a_table_with_a_row_per_app(tmp_path: Path) -> None:
    """For operators."""
    relay = CommandLine(tmp_path)
    relay.add_app("blog")
    async with relay.serving():
        await relay.run("pause", "blog")
        done = await relay.run("status")
    assert done.code == 0
    events, segments = done.out.split("downloads")
    assert [line for line in events.splitlines() if "shop" in line and "running" in line]
    assert [line for line in events.splitlines() if "blog" in line and "paused" in line]
    assert {"shop", "blog"} <= set(segments.split())


async def test_status_shows_segments(tmp_path: Path) -> None:
    """Including those that wait for a review."""
    relay = CommandLine(tmp_path)
    await fill(relay.folder)
    async with relay.serving():
        done = await relay.run("status")
        answer = json.loads((await relay.run("status", "--json")).out)["segments"]["shop"]
    (row,) = [
        line.split() for line in done.out.split("downloads")[1].splitlines() if "shop" in line
    ]
    assert row[1:5] == ["1", "1", "0", "0"]
    assert [answer[name] for name in ("active", "held", "stale", "archived")] == [1, 1, 0, 0]


async def test_a_repeated_pause_says_so(tmp_path: Path) -> None:
    """The only app may be omitted and may be spelt in any case."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        done = [await relay.run(*words.split()) for words in ("pause", "pause Shop", "resume")]
        delivery = json.loads((await relay.run("status", "--json")).out)["apps"]["shop"]
    assert [(end.code, end.out.strip()) for end in done] == [
        (0, "the delivery of shop is paused"),
        (0, "the delivery of shop was paused already"),
        (0, "the delivery of shop goes on"),
    ]
    assert delivery["delivery"] == "running"


async def test_a_door_that_listens_everywhere_is_found_on_loopback(tmp_path: Path) -> None:
    """0.0.0.0 is no address to connect to."""
    relay = CommandLine(tmp_path, RELAY_ADMIN_TOKEN="token-of-the-admin-door")
    port = relay.admin.rpartition(":")[2]
    relay.env["RELAY_ADMIN_LISTEN"] = f"0.0.0.0:{port}"
    async with relay.serving():
        assert (await relay.run("status")).code == 0


async def test_a_rejected_token_is_reported(tmp_path: Path) -> None:
    """Without showing it."""
    relay = CommandLine(tmp_path, RELAY_ADMIN_TOKEN="token-of-the-admin-door")
    async with relay.serving():
        done = await relay.run("status", RELAY_ADMIN_TOKEN="another-token")
    assert (done.code, done.out) == (1, "")
    assert "does not take this RELAY_ADMIN_TOKEN" in done.err
    assert "another-token" not in done.err


async def test_another_server_is_reported(tmp_path: Path) -> None:
    """Whatever it answers."""
    async with running(web.Application()) as url:
        relay = CommandLine(tmp_path, RELAY_ADMIN_LISTEN=f"127.0.0.1:{url.port}")
        done = await relay.run("status")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"relay: what answers on 127.0.0.1:{url.port} is no relay (status 404)\n"


async def test_a_watch_ends_with_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C is the normal way to end it, so no failure."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        watch = await relay.start("status", "--watch")
        async with watch:
            await read_until(watch, b"shop")
            await read_until(watch, b"shop")
            watch.send_signal(signal.SIGINT)
            assert await ended(watch) == 0


async def test_watch_and_json_exclude_each_other(tmp_path: Path) -> None:
    """Wrong usage."""
    assert (await CommandLine(tmp_path).run("status", "--watch", "--json")).code == 2
