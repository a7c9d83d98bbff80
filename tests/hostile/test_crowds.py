"""Crowds of hostile peers: an honest client is still served, and memory stays bounded."""

import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.hostile.attacker import ATTACKS, RUNNING
from tests.hostile.bystander import bystander, complaints, most_resident_bytes, quiet
from tests.hostile.talking import port_of
from tests.support.certificates import AUTHORITY, write_pair
from tests.support.daemons import running_daemon
from tests.support.options import option

pytestmark = pytest.mark.slow

MEASURED_S = option("HOSTILE_SECONDS", 2)

WAIT_S = 2.0
"""For 99 of 100 answers; calm they take some milliseconds. Only who is starved waits so long."""

GROWTH_BYTES = 200 * 1024 * 1024

BEGIN_S = 60.0

CROWDS = [name for name in ATTACKS if name not in ("idle few", "idle some")]

FEW_DESCRIPTORS = "64"

USUAL_DESCRIPTORS = "1024"
"""The usual default limit; fewer than either crowd opens."""


@asynccontextmanager
async def attacked(door: str, name: str) -> AsyncIterator[None]:
    """Run a crowd against a door while the block runs."""
    attacker = await anyio.open_process(
        [sys.executable, "-m", "tests.hostile.attacker", name, str(port_of(door))],
        cwd=Path(__file__).parents[2],
        stderr=None,
    )
    async with attacker:
        assert attacker.stdout is not None
        try:
            with anyio.fail_after(BEGIN_S):
                assert await attacker.stdout.receive() == RUNNING
            yield
        finally:
            attacker.kill()


@pytest.mark.parametrize("name", CROWDS)
async def test_a_crowd_does_not_keep_others_from_being_served(tmp_path: Path, name: str) -> None:
    """No attack short of saturating the network or the processor starves an honest client."""
    relay = quiet(tmp_path)
    async with running_daemon(relay) as daemon:
        await daemon.until("relay.ready")
        before_bytes = most_resident_bytes(daemon)
        async with attacked(relay.public, name), bystander(relay.public) as experience:
            await anyio.sleep(MEASURED_S)
            grown_bytes = most_resident_bytes(daemon) - before_bytes
        told = daemon.logged("guessing.begun")
        assert complaints(daemon) == []
    print(f"{name}: {experience}; {grown_bytes >> 20} MiB more")  # noqa: T201  # -s shows it
    assert set(experience.statuses) == {200}
    assert experience.wait_s(0.99) < WAIT_S
    assert grown_bytes < GROWTH_BYTES
    assert len(told) == (name == "guessing")


async def test_with_few_descriptors_it_sheds_and_recovers(tmp_path: Path) -> None:
    """At `ulimit -n 64` new connections replace idle ones and the daemon keeps running."""
    relay = quiet(tmp_path)
    limited = ["prlimit", f"--nofile={FEW_DESCRIPTORS}:{FEW_DESCRIPTORS}"]
    async with running_daemon(relay, under=limited) as daemon:
        await daemon.until("relay.ready")
        for name in ("idle few", "coming and going"):
            async with attacked(relay.public, name), bystander(relay.public) as experience:
                await anyio.sleep(MEASURED_S)
            assert set(experience.statuses) == {200}
        async with bystander(relay.public) as experience:
            await anyio.sleep(0.5)
        assert experience.wait_s(0.99) < WAIT_S
        assert complaints(daemon) == []
        daemon.terminate()
        assert await daemon.ended() == 0


async def test_connections_without_a_handshake_do_not_block_others(tmp_path: Path) -> None:
    """Silent connections to both TLS doors stay within each door's connection limit."""
    pair = write_pair(tmp_path)
    files = {"TLS_CERT_FILE": str(pair.cert), "TLS_KEY_FILE": str(pair.key)}
    admin_files = {f"ADMIN_{name}": file for name, file in files.items()}
    relay = quiet(tmp_path, **files, **admin_files)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    public, admin = (door.replace("http:", "https:") for door in (relay.public, relay.admin))
    limited = ["prlimit", f"--nofile={USUAL_DESCRIPTORS}:{USUAL_DESCRIPTORS}"]
    async with running_daemon(relay, under=limited) as daemon:
        await daemon.until("relay.ready")
        async with (
            attacked(relay.public, "idle some"),
            attacked(relay.admin, "idle some"),
            bystander(public, tls=client) as sender,
            bystander(admin, tls=client, path="/readyz") as watcher,
        ):
            await anyio.sleep(MEASURED_S)
        print(f"silent before TLS: {sender}; {watcher}")  # noqa: T201  # -s shows it
        for experience in (sender, watcher):
            assert set(experience.statuses) == {200}
            assert experience.wait_s(0.99) < WAIT_S
        assert complaints(daemon) == []
        daemon.terminate()
        assert await daemon.ended() == 0
