"""SIGHUP: new settings and certificates in a running daemon."""

import signal
import sqlite3
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import aiohttp
import anyio
import anyio.lowlevel
import pytest
from anyio.streams.tls import TLSAttribute

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.common.listener import running as running_cohorts
from relay.segments.store import DATABASE_NAME as SEGMENTS
from tests.support.certificates import AUTHORITY, write_pair
from tests.support.command_line import API_KEY, CommandLine
from tests.support.daemons import (
    BOOT_S,
    EVENTS_PATH,
    POLL_S,
    DaemonProcess,
    Doors,
    fast_relay,
    open_doors,
    running_daemon,
)

APP = "RELAY_APPS__SHOP__"
SECRET_KEY = "secret-key-of-the-test"
NEW_TOKEN = "new-webhook-token-of-the-test"

IN_FILE = {
    f"{APP}WEBHOOK_TOKENS": "old-webhook-token-of-the-test",
    "RELAY_OUTBOX__MIN_FREE_BYTES": "0",
    "RELAY_DELIVERY__LINGER_S": "0.05",
    f"{APP}COHORTS": "none",
}
"""Settings that must not be in the environment, which would win."""

CLICK = b'{"event":{"kind":"message.push.clicked","id":"%b","subscription_id":"s-1"}}'


class Reloading:
    """A daemon whose settings are in a file.

    Attributes:
        relay: How it was started.
        daemon: Its process.
        doors: A client of it.
    """

    def __init__(self, relay: CommandLine, daemon: DaemonProcess, doors: Doors) -> None:
        self.relay = relay
        self.daemon = daemon
        self.doors = doors
        self._file = relay.folder.parent / "relay.env"
        self._asked = 0

    async def reload(self, outcome: str, **changes: str) -> dict[str, object]:
        """Rewrite the file and reload; return the log line with the outcome."""
        write_env(self._file, **changes)
        already = len(self.daemon.logged(outcome))
        self.daemon.process.send_signal(signal.SIGHUP)
        return await self.daemon.until(outcome, already + 1)

    def ask_segments(self, query: str) -> int:
        """Return the number that a query of the segment table gives."""
        path = f"file:{self.relay.folder / SEGMENTS}?mode=ro"
        with closing(sqlite3.connect(path, uri=True)) as raw:
            return int(raw.execute(query).fetchone()[0])

    async def until_segments(self, query: str) -> None:
        """Return once a query of the segment table gives more than zero."""
        with anyio.fail_after(BOOT_S):
            while not self.ask_segments(query):
                await anyio.sleep(POLL_S)

    async def post_click(self, token: str, name: str = "e-1") -> tuple[int, dict[str, int]]:
        """Post a click to the webhook; return the status and the response."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"{self.relay.public}{EVENTS_PATH}",
                data=CLICK % name.encode(),
                headers={"X-Relay-Token": token},
            ) as answer,
        ):
            return answer.status, await answer.json()


def write_env(file: Path, **changes: str) -> None:
    """Write the settings file with these changes."""
    values = {**IN_FILE, **changes}
    file.write_text("".join(f"{name}={text}\n" for name, text in values.items()))


@asynccontextmanager
async def reloading(root: Path, **changes: str) -> AsyncIterator[Reloading]:
    """Run a daemon whose tokens are in a file, not in its environment."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        relay = fast_relay(root, str(url).rstrip("/"))
        for name in IN_FILE:
            relay.env.pop(name, None)
        relay.env |= changes
        write_env(root / "relay.env")
        words = ("--env-file", str(root / "relay.env"))
        async with running_daemon(relay, words=words) as daemon, open_doors(relay) as doors:
            await daemon.until("relay.ready")
            yield Reloading(relay, daemon, doors)


async def test_tokens_are_rotated_without_a_restart(tmp_path: Path) -> None:
    """First both work, then only the new one; no request is rejected in between."""
    old = "old-webhook-token-of-the-test"
    async with reloading(tmp_path) as daemon:
        assert (await daemon.post_click(NEW_TOKEN))[0] == 401
        line = await daemon.reload(
            "settings.reloaded", **{f"{APP}WEBHOOK_TOKENS": f"{old},{NEW_TOKEN}"}
        )
        assert line["taken"] == [f"{APP}WEBHOOK_TOKENS"]
        assert [(await daemon.post_click(each))[0] for each in (old, NEW_TOKEN)] == [200, 200]
        await daemon.reload("settings.reloaded", **{f"{APP}WEBHOOK_TOKENS": NEW_TOKEN})
        assert [(await daemon.post_click(each))[0] for each in (old, NEW_TOKEN)] == [401, 200]
        assert NEW_TOKEN not in str(line)


async def test_a_selection_holds_for_the_next_event(tmp_path: Path) -> None:
    """Deselected events are filtered and counted so."""
    async with reloading(tmp_path) as daemon:
        token = "old-webhook-token-of-the-test"
        assert (await daemon.post_click(token, "e-1"))[1]["accepted"] == 1
        await daemon.reload("settings.reloaded", **{f"{APP}EVENTS": "message.email.*"})
        assert (await daemon.post_click(token, "e-2"))[1]["filtered"] == 1
        await daemon.reload("settings.reloaded")
        assert (await daemon.post_click(token, "e-3"))[1]["accepted"] == 1


async def test_limits_hold_at_once(tmp_path: Path) -> None:
    """A limit of the outbox, raised again, and the log level."""
    async with reloading(tmp_path) as daemon:
        token = "old-webhook-token-of-the-test"
        await daemon.reload("settings.reloaded", RELAY_OUTBOX__MIN_FREE_BYTES=str(1 << 60))
        with anyio.fail_after(10):
            while (await daemon.post_click(token, "e-1"))[0] != 503:
                await anyio.sleep(POLL_S)
        line = await daemon.reload("settings.reloaded", RELAY_OUTBOX__MIN_FREE_BYTES="0")
        assert line["taken"] == ["RELAY_OUTBOX__MIN_FREE_BYTES"]
        with anyio.fail_after(10):
            while (await daemon.post_click(token, "e-1"))[0] != 200:
                await anyio.sleep(POLL_S)


async def test_cohorts_follow_their_settings(tmp_path: Path) -> None:
    """Polled cohorts, membership and the segment limit, all without a restart."""
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    cohorts.put(StandInCohort(id="fans", user_ids=["ann", "bob"]))
    async with running_cohorts(cohorts.app()) as url:
        secret = {
            f"{APP}AMPLITUDE_SECRET_KEY": SECRET_KEY,
            f"{APP}AMPLITUDE_COHORTS_URL": str(url).rstrip("/"),
            "RELAY_COHORTS__EXPORT_POLL_S": "0.1",
        }
        async with reloading(tmp_path, **secret) as daemon:
            polled = {f"{APP}COHORTS": "fans"}
            known = {**polled, f"{APP}SEGMENT_LIMIT": "0", f"{APP}MEMBERSHIP": "all"}
            await daemon.reload("settings.reloaded", **known)
            await daemon.until_segments("SELECT count(*) FROM cohort_runs WHERE state = 'applied'")
            assert daemon.ask_segments("SELECT count(*) FROM segments") == 0
            await daemon.reload("settings.reloaded", **polled, **{f"{APP}MEMBERSHIP": "all"})
            await daemon.until_segments("SELECT count(*) FROM segments WHERE matched_users = 2")
            await daemon.reload("settings.reloaded", **polled)
            await daemon.until_segments("SELECT count(*) FROM segments WHERE matched_users = 0")


async def test_a_bad_file_keeps_the_old_settings_and_says_so(tmp_path: Path) -> None:
    """Every mistake is named, no value is shown."""
    async with reloading(tmp_path) as daemon:
        token = "old-webhook-token-of-the-test"
        line = await daemon.reload(
            "settings.refused",
            **{f"{APP}WEBHOOK_TOKENS": f"{NEW_TOKEN},", "RELAY_DELIVERY__LINGER_S": "soon"},
        )
        told = str(line["mistakes"])
        assert f"{APP}WEBHOOK_TOKENS" in told
        assert "RELAY_DELIVERY__LINGER_S" in told
        assert NEW_TOKEN not in told
        assert (await daemon.post_click(NEW_TOKEN))[0] == 401
        assert (await daemon.post_click(token))[0] == 200


async def test_settings_that_need_a_restart_are_named(tmp_path: Path) -> None:
    """The rest of the file applies at once."""
    async with reloading(tmp_path) as daemon:
        line = await daemon.reload(
            "settings.reloaded",
            **{f"{APP}WEBHOOK_TOKENS": NEW_TOKEN},
            RELAY_DELIVERY__SENDERS="7",
        )
        assert line["waiting_for_restart"] == ["RELAY_DELIVERY__SENDERS"]
        assert (await daemon.post_click(NEW_TOKEN))[0] == 200


async def test_a_renewed_certificate_is_shown_from_the_next_connection_on(tmp_path: Path) -> None:
    """Certificates live for weeks; a half-written one leaves the old one in place."""
    pair = write_pair(tmp_path)
    tls = {"RELAY_TLS_CERT_FILE": str(pair.cert), "RELAY_TLS_KEY_FILE": str(pair.key)}
    async with reloading(tmp_path, **tls) as daemon:
        door = daemon.relay.public.removeprefix("http://").partition(":")[2]
        assert await shown_serial(int(door)) == pair.serial
        renewed = write_pair(tmp_path)
        assert await shown_serial(int(door)) == pair.serial
        await daemon.reload("settings.reloaded")
        assert await shown_serial(int(door)) == renewed.serial
        pair.cert.write_text("half")
        await daemon.reload("settings.refused")
        assert await shown_serial(int(door)) == renewed.serial


async def shown_serial(port: int) -> int:
    """Return the serial number of a door's certificate."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    async with await anyio.connect_tcp(
        "127.0.0.1", port, tls=True, ssl_context=context, tls_standard_compatible=False
    ) as stream:
        shown = stream.extra(TLSAttribute.peer_certificate) or {}
    return int(str(shown["serialNumber"]), 16)


@pytest.mark.parametrize("times", [20])
async def test_events_are_accepted_during_repeated_reloads(tmp_path: Path, times: int) -> None:
    """A reload rejects no request and loses no event."""
    async with reloading(tmp_path) as daemon:
        token = "old-webhook-token-of-the-test"
        statuses: list[int] = []

        async def send() -> None:
            while True:
                statuses.append((await daemon.post_click(token, f"e-{len(statuses)}"))[0])

        async with anyio.create_task_group() as sending:
            sending.start_soon(send)
            for number in range(times):
                await daemon.reload("settings.reloaded", RELAY_DELIVERY__LINGER_S=str(number))
            sending.cancel_scope.cancel()
        assert statuses
        assert set(statuses) == {200}
        await daemon.reload("settings.reloaded", RELAY_DELIVERY__LINGER_S="0")
        counts = await daemon.doors.drained()
        assert counts.accepted == counts.delivered >= len(statuses)


async def test_endless_hangups_neither_stop_nor_block_the_daemon(tmp_path: Path) -> None:
    """A script may send SIGHUP in a loop; a stop still works."""
    async with reloading(tmp_path) as daemon, anyio.create_task_group() as asking:

        async def ask() -> None:
            while not daemon.daemon.logged("relay.stopping"):
                with suppress(ProcessLookupError):
                    daemon.daemon.process.send_signal(signal.SIGHUP)
                await anyio.lowlevel.checkpoint()

        asking.start_soon(ask)
        await daemon.daemon.until("settings.reloaded")
        daemon.daemon.terminate()
        assert await daemon.daemon.ended(10.0) == 0


async def test_a_shorter_linger_applies_to_pending_events(tmp_path: Path) -> None:
    """Otherwise pending events would wait for the old linger, up to an hour."""
    async with reloading(tmp_path) as daemon:
        token = "old-webhook-token-of-the-test"
        await daemon.reload("settings.reloaded", RELAY_DELIVERY__LINGER_S="600")
        assert (await daemon.post_click(token))[0] == 200
        await daemon.reload("settings.reloaded", RELAY_DELIVERY__LINGER_S="0.05")
        with anyio.fail_after(BOOT_S):
            await daemon.doors.drained()
