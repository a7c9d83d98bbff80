"""`relay check` over real folders, files and sockets."""

import socket
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from relay.cli.check.key_answers import KeyAnswer, Knowledge, ask_for_pair
from relay.cli.check.keys import RegionAnswers, locate
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from tests.support.command_line import API_KEY, APP_ID, SECRETS, CommandLine, free_port
from tests.unit.cli.filled import fill

SECRET_KEY = "secret-key-of-the-test"
ONESIGNAL_KEY = "os_v2_app_key-of-the-test"


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_nothing_is_created_before_the_first_start(tmp_path: Path) -> None:
    """A missing data directory passes and is still missing afterwards."""
    relay = CommandLine(tmp_path)
    done = await relay.run("check")
    assert (done.code, done.err) == (0, "")
    assert all(line.startswith("ok ") for line in done.out.splitlines())
    assert not relay.folder.exists()


async def test_a_database_at_rest_is_read_without_a_trace(tmp_path: Path) -> None:
    """SQLite would create its log's files beside it."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        pass
    before = contents(relay.folder)
    done = await relay.run("check")
    assert done.code == 0
    assert "whole" in done.out
    assert contents(relay.folder) == before


async def test_a_log_without_its_index_is_left_to_the_daemon(tmp_path: Path) -> None:
    """To read it, SQLite would have to create the index."""
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


async def test_doors_of_a_running_relay_pass(tmp_path: Path) -> None:
    """The check runs beside a daemon as often as before its start."""
    relay = CommandLine(tmp_path)
    async with relay.serving():
        done = await relay.run("check")
    assert done.code == 0
    assert done.out.count("held by a relay that runs") == 2


async def test_a_door_held_by_another_program_is_named(tmp_path: Path) -> None:
    """Another program on the port would keep relay from starting."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        taken = f"127.0.0.1:{door.getsockname()[1]}"
        done = await CommandLine(tmp_path, RELAY_LISTEN=taken).run("check")
    assert (done.code, done.err) == (1, "relay: failed: public door\n")
    assert f"{taken} is in use by another program" in done.out


async def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    """192.0.2.1 is reserved for documentation (RFC 5737)."""
    done = await CommandLine(tmp_path, RELAY_LISTEN="192.0.2.1:8080").run("check")
    assert (done.code, done.err) == (1, "relay: failed: public door\n")


async def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """Not even root can store events in it."""
    (tmp_path / "data").write_text("a file")
    done = await CommandLine(tmp_path).run("check")
    assert done.code == 1
    assert "data directory" in done.err
    assert f"{tmp_path / 'data'} is no folder" in done.out


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """It also stays unchanged."""
    relay = CommandLine(tmp_path)
    relay.folder.mkdir()
    (relay.folder / "outbox.db").write_bytes(b"not a database, but long enough to look at" * 20)
    before = contents(relay.folder)
    done = await relay.run("check")
    assert (done.code, done.err) == (1, "relay: failed: outbox.db\n")
    assert contents(relay.folder) == before


async def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    """A bad disk leaves pages of zeros in the middle."""
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
    """The daemon would reject it."""
    relay = CommandLine(tmp_path)
    relay.folder.mkdir()
    with closing(sqlite3.connect(relay.folder / "outbox.db")) as raw:
        raw.execute("PRAGMA user_version = 999")
    done = await relay.run("check")
    assert (done.code, done.err) == (1, "relay: failed: outbox.db\n")
    assert "has schema 999" in done.out


async def test_a_key_that_amplitude_knows_passes(tmp_path: Path) -> None:
    """The request sends no event."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        origin = str(url).rstrip("/")
        relay = CommandLine(tmp_path, RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=origin)
        done = await relay.run("check", "--online")
    assert (done.code, done.err) == (0, "")
    assert f"Amplitude key of shop  known ({origin})" in done.out
    assert amplitude.ledger.total_events == 0


async def test_a_key_that_amplitude_does_not_know_is_named_but_not_shown(tmp_path: Path) -> None:
    """Amplitude repeats the key in its response; relay does not."""
    async with running(AmplitudeStandIn().app()) as url:
        origin = str(url).rstrip("/")
        relay = CommandLine(tmp_path, RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=origin)
        done = await relay.run("check", "--online")
    assert (done.code, done.err) == (1, "relay: failed: Amplitude key of shop\n")
    assert f"unknown ({origin})" in done.out
    assert not any(secret in done.out + done.err for secret in SECRETS)


async def test_a_segment_table_is_checked_too(tmp_path: Path) -> None:
    """Without a trace, as the outbox is."""
    relay = CommandLine(tmp_path)
    await fill(relay.folder)
    before = contents(relay.folder)
    done = await relay.run("check")
    assert (done.code, done.err) == (0, "")
    assert "segments.db" in done.out
    assert contents(relay.folder) == before
    (relay.folder / "segments.db").write_bytes(before["segments.db"][:5_000] + b"x" * 5_000)
    done = await relay.run("check")
    assert (done.code, done.err) == (1, "relay: failed: segments.db\n")


def onesignal(*keys: str) -> web.Application:
    """Return a OneSignal that accepts one key and rejects others."""

    async def list_segments(request: web.Request) -> web.Response:
        assert request.query["limit"] == "1"
        if request.headers["Authorization"] in {f"Key {key}" for key in keys}:
            return web.json_response({"total_count": 0, "segments": []})
        return web.json_response({"errors": ["Access denied.  Please include an …"]}, status=403)

    app = web.Application()
    app.router.add_get(f"/apps/{APP_ID}/segments", list_segments)
    return app


@pytest.mark.parametrize(
    ("secret_key", "onesignal_key", "failed"),
    [
        (SECRET_KEY, ONESIGNAL_KEY, []),
        ("another", ONESIGNAL_KEY, ["Amplitude secret key of shop"]),
        (SECRET_KEY, "os_v2_org_another", ["OneSignal key of shop"]),
    ],
)
async def test_keys_of_the_cohort_direction_are_checked(
    tmp_path: Path, secret_key: str, onesignal_key: str, failed: list[str]
) -> None:
    """Each at its own service, by requests that cost nothing; no key is shown."""
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    async with (
        running(AmplitudeStandIn([API_KEY]).app()) as ingest,
        running(cohorts.app()) as amplitude,
        running(onesignal(ONESIGNAL_KEY)) as other,
    ):
        relay = CommandLine(
            tmp_path,
            RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=str(ingest).rstrip("/"),
            RELAY_APPS__SHOP__AMPLITUDE_COHORTS_URL=str(amplitude).rstrip("/"),
            RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY=secret_key,
            RELAY_APPS__SHOP__ONESIGNAL_API_URL=str(other).rstrip("/"),
            RELAY_APPS__SHOP__ONESIGNAL_API_KEY=onesignal_key,
        )
        done = await relay.run("check", "--online")
    named = [f"relay: failed: {', '.join(failed)}\n"] if failed else [""]
    assert (done.code, [done.err]) == (int(bool(failed)), named)
    assert cohorts.downloads_this_month == 0
    for key in (*SECRETS, secret_key, onesignal_key):
        assert key not in done.out + done.err


@pytest.mark.parametrize(
    ("here", "elsewhere", "expected"),
    [
        ({API_KEY: SECRET_KEY}, {}, RegionAnswers(KeyAnswer(Knowledge.KNOWN))),
        (
            {},
            {API_KEY: SECRET_KEY},
            RegionAnswers(KeyAnswer(Knowledge.UNKNOWN), KeyAnswer(Knowledge.KNOWN)),
        ),
    ],
)
async def test_a_secret_key_is_found_in_its_region(
    here: dict[str, str], elsewhere: dict[str, str], expected: RegionAnswers
) -> None:
    """The other region is asked only for a pair unknown in its own."""
    async with (
        running(CohortsStandIn(here).app()) as one,
        running(CohortsStandIn(elsewhere).app()) as two,
        aiohttp.ClientSession() as session,
    ):
        ask = partial(ask_for_pair, session, API_KEY, SECRET_KEY)
        where = await locate(ask, str(one).rstrip("/"), str(two).rstrip("/"))
    assert where == expected


async def test_swapped_keys_are_reported(tmp_path: Path) -> None:
    """They look alike and are side by side in Amplitude's settings."""
    async with (
        running(AmplitudeStandIn([API_KEY]).app()) as ingest,
        running(CohortsStandIn({API_KEY: SECRET_KEY}).app()) as cohorts,
    ):
        relay = CommandLine(
            tmp_path,
            RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=str(ingest).rstrip("/"),
            RELAY_APPS__SHOP__AMPLITUDE_COHORTS_URL=str(cohorts).rstrip("/"),
            RELAY_APPS__SHOP__AMPLITUDE_API_KEY=SECRET_KEY,
            RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY=API_KEY,
        )
        done = await relay.run("check", "--online")
    assert done.code == 1
    assert "API key and secret key stand in each other's place" in done.out
    assert not any(key in done.out + done.err for key in (API_KEY, SECRET_KEY))


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("http://nowhere.invalid", "not reached: the name of its host is not found"),
        ("http://127.0.0.1:{}", "not reached: Connection refused"),
    ],
)
async def test_an_unreachable_host_is_reported_in_plain_words(
    tmp_path: Path, host: str, told: str
) -> None:
    """Not in those of the libraries."""
    origin = host.format(free_port())
    done = await CommandLine(
        tmp_path,
        RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL=origin,
        RELAY_APPS__SHOP__ONESIGNAL_API_URL=origin,
        RELAY_APPS__SHOP__ONESIGNAL_API_KEY=ONESIGNAL_KEY,
    ).run("check", "--online")
    assert done.code == 1
    assert done.out.count(f"{origin}: {told}") == 2
