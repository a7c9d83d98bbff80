"""The unit under a real systemd, sandboxed as shipped."""

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from tests.crash.crash_run import EndlessTraffic
from tests.support.command_line import API_KEY, APP_ID, WEBHOOK_TOKEN, CommandLine
from tests.support.daemons import Doors, open_doors
from tests.systemd.machine import CREDENTIALS, STATE, Machine, exposure

pytestmark = pytest.mark.slow

ACTIVE_S = 5.0
STOPPED_S = 10.0
MICROSECONDS = 1_000_000
HIGHEST_EXPOSURE = 1.5

SECRETS = {
    "apps__shop__webhook_tokens": WEBHOOK_TOKEN,
    "apps__shop__amplitude_api_key": API_KEY,
}


@dataclass(frozen=True)
class Service:
    """relay as a service, and its surroundings."""

    machine: Machine
    settings: dict[str, str]
    amplitude: AmplitudeStandIn
    doors: Doors
    traffic: EndlessTraffic

    async def start(self) -> None:
        """Start it and wait until it is active."""
        await self.machine.systemctl("start", "relay")

    async def post(self) -> None:
        """Have one new event acknowledged."""
        _, body = self.traffic.one()
        status, counts = await self.doors.post(body)
        assert (status, counts["accepted"]) == (200, 1)

    async def restarted(self) -> None:
        """Return once systemd has started it a second time."""
        await self.machine.until(
            lambda now: now == {"ActiveState": "active", "NRestarts": "1"},
            "ActiveState",
            "NRestarts",
        )

    async def journal(self) -> str:
        """Return its journal."""
        return await self.machine.run("journalctl", "--unit=relay", "--no-pager", "--output=cat")


@asynccontextmanager
async def service(machine: Machine, folder: Path) -> AsyncIterator[Service]:
    """Provide one installation; stop it at the end."""
    amplitude = AmplitudeStandIn([API_KEY])
    async with running(amplitude.app()) as url:
        relay = CommandLine(folder)
        settings = {
            "RELAY_LISTEN": relay.public.removeprefix("http://"),
            "RELAY_ADMIN_LISTEN": relay.admin.removeprefix("http://"),
            "RELAY_OUTBOX__MIN_FREE_BYTES": "0",
            "RELAY_DELIVERY__LINGER_S": "0",
            "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": APP_ID,
            "RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL": str(url),
        }
        async with open_doors(relay) as doors:
            try:
                yield Service(machine, settings, amplitude, doors, EndlessTraffic(9))
            finally:
                amplitude.faults.clear()
                await machine.systemctl("stop", "relay", check=False)


async def test_it_is_active_soon_and_delivers(machine: Machine, tmp_path: Path) -> None:
    """`Type=notify`: it is active when it can accept events."""
    async with service(machine, tmp_path) as relay:
        await machine.configure(relay.settings, SECRETS)
        await relay.start()
        await relay.post()
        counts = await relay.doors.drained()
        shown = await machine.show(
            "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic", "StatusText"
        )
    began, active, text = shown.values()
    assert (int(active) - int(began)) / MICROSECONDS < ACTIVE_S
    assert text.startswith("1 apps, port ")
    assert (counts.delivered, len(relay.amplitude.ledger.account(API_KEY).insert_ids)) == (1, 1)


async def test_it_runs_in_its_sandbox(machine: Machine, tmp_path: Path) -> None:
    """No privilege, no writable executable memory; the fast loop and parser still work."""
    async with service(machine, tmp_path) as relay:
        await machine.configure(relay.settings, SECRETS)
        await relay.start()
        await relay.post()
        pid = (await machine.show("MainPID"))["MainPID"]
        lines = (await machine.run("cat", f"/proc/{pid}/status")).splitlines()
        maps = await machine.run("cat", f"/proc/{pid}/maps")
        report = await machine.run("systemd-analyze", "security", "relay", "--no-pager")
    status = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    assert status["Seccomp"] == ["2"]
    assert status["NoNewPrivs"] == ["1"]
    assert {int(status[name][0], 16) for name in ("CapEff", "CapBnd", "CapAmb")} == {0}
    assert "0" not in status["Uid"]
    assert "uvloop" in maps
    assert "orjson" in maps
    assert " rwxp " not in maps
    assert exposure(report) <= HIGHEST_EXPOSURE


async def test_its_files_are_private(machine: Machine, tmp_path: Path) -> None:
    """Files 0600 in a folder 0700, all owned by one user other than root."""
    async with service(machine, tmp_path) as relay:
        await machine.configure(relay.settings, SECRETS)
        await relay.start()
        await relay.post()
        folder = machine.root / STATE
        files = {path.name: path.stat() for path in folder.iterdir()}
        found = folder.stat()
    modes = {name: stat.S_IMODE(file.st_mode) for name, file in files.items()}
    owners = {file.st_uid for file in [found, *files.values()]}
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert modes == dict.fromkeys(modes, 0o600)
    assert "outbox.db" in modes
    assert len(owners) == 1
    assert 0 not in owners


async def test_a_daemon_that_freezes_is_replaced(machine: Machine, tmp_path: Path) -> None:
    """The watchdog misses its heartbeat; accepted events are delivered by the next."""
    async with service(machine, tmp_path) as relay:
        drop_in = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\n"
        await machine.configure(relay.settings, SECRETS, drop_in=drop_in)
        relay.amplitude.faults.add("hang", count=1)
        await relay.start()
        await relay.post()
        await machine.systemctl("kill", "--signal=STOP", "--kill-whom=main", "relay")
        await relay.restarted()
        journal = await relay.journal()
        counts = await relay.doors.drained()
    assert "Watchdog timeout" in journal
    assert (counts.accepted, counts.delivered) == (1, 1)


async def test_a_killed_daemon_is_started_again(machine: Machine, tmp_path: Path) -> None:
    """`Restart=on-failure`, with everything on disk."""
    async with service(machine, tmp_path) as relay:
        await machine.configure(relay.settings, SECRETS)
        relay.amplitude.faults.add("hang", count=1)
        await relay.start()
        await relay.post()
        await machine.systemctl("kill", "--signal=KILL", "--kill-whom=main", "relay")
        await relay.restarted()
        counts = await relay.doors.drained()
    assert (counts.accepted, counts.delivered) == (1, 1)


async def test_it_reloads_without_a_restart(machine: Machine, tmp_path: Path) -> None:
    """`systemctl reload` waits until the settings are read, and restarts nothing."""
    async with service(machine, tmp_path) as relay:
        await machine.configure(relay.settings, SECRETS)
        await relay.start()
        await machine.systemctl("reload", "relay")
        now = await machine.show("ActiveState", "NRestarts")
        assert now == {"ActiveState": "active", "NRestarts": "0"}
        assert "settings.reloaded" in await relay.journal()
        await relay.post()


async def test_it_stops_in_time_with_an_upload_that_hangs(machine: Machine, tmp_path: Path) -> None:
    """In order, not by force; the next start repeats the upload."""
    async with service(machine, tmp_path) as relay:
        await machine.configure(relay.settings, SECRETS)
        relay.amplitude.faults.add("hang", count=1)
        await relay.start()
        await relay.post()
        await relay.amplitude.ledger.wait_until(lambda account: account.total_requests > 0)
        began_s = monotonic()
        await machine.systemctl("stop", "relay")
        stopped_s = monotonic() - began_s
        end = await machine.show("Result", "ExecMainStatus", "ActiveState")
        await relay.start()
        counts = await relay.doors.drained()
    assert end == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}
    assert stopped_s < STOPPED_S
    assert (counts.accepted, counts.delivered) == (1, 1)


async def test_a_wrong_configuration_is_not_tried_again(machine: Machine, tmp_path: Path) -> None:
    """It exits with 78, names the mistake in the journal, and is not restarted."""
    async with service(machine, tmp_path) as relay:
        await machine.configure({**relay.settings, "RELAY_LISTENN": "x"}, SECRETS)
        await machine.systemctl("start", "relay", check=False)
        end = await machine.show("ExecMainStatus", "SubState", "NRestarts")
        journal = await relay.journal()
    assert end == {"ExecMainStatus": "78", "SubState": "failed", "NRestarts": "0"}
    assert "RELAY_LISTENN: " in journal


async def test_secrets_may_be_in_the_environment_file(machine: Machine, tmp_path: Path) -> None:
    """The unit also starts without a credentials folder."""
    async with service(machine, tmp_path) as relay:
        secrets = {f"RELAY_{name.upper()}": secret for name, secret in SECRETS.items()}
        await machine.configure({**relay.settings, **secrets})
        assert not (machine.root / CREDENTIALS).exists()
        await relay.start()
        await relay.post()


async def test_commands_find_the_settings_of_the_service(machine: Machine, tmp_path: Path) -> None:
    """As root, in the way the unit file documents."""
    async with service(machine, tmp_path) as relay:
        settings = {**relay.settings, "RELAY_DATA_DIR": "/var/lib/relay"}
        await machine.configure(settings, SECRETS)
        await relay.start()
        await relay.post()
        said = await machine.run(
            "env",
            "CREDENTIALS_DIRECTORY=/run/credentials/relay.service",
            "/opt/relay/bin/relay",
            "--env-file",
            "/etc/relay/relay.env",
            "status",
            "--json",
        )
    assert '"accepted"' in said
