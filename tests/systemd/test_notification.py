"""What the real daemon tells a service manager, from its start to its end."""

from functools import partial
from pathlib import Path

import anyio

from tests.support.command_line import CommandLine
from tests.support.daemons import running_daemon
from tests.systemd.notify_socket import NotifySocket, listening

SILENCE_S = 20.0


async def receive_until(ear: NotifySocket, name: str) -> dict[str, str]:
    """Wait for a state without blocking the event loop."""
    return await anyio.to_thread.run_sync(partial(ear.receive_until, name))


async def test_a_daemon_tells_its_manager_how_it_does(tmp_path: Path) -> None:
    """READY when the doors are open, WATCHDOG twice per interval, STOPPING at the end."""
    relay = CommandLine(tmp_path)
    with listening(tmp_path, silence_s=SILENCE_S) as ear:
        relay.env |= {"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "1000000"}
        async with running_daemon(relay) as daemon:
            ready = await receive_until(ear, "READY")
            port = (await daemon.until("relay.ready"))["public_port"]
            alive = [await receive_until(ear, "WATCHDOG") for _ in range(3)]
            daemon.terminate()
            stopping = await receive_until(ear, "STOPPING")
            assert await daemon.ended() == 0
    assert ready == {"READY": "1", "STATUS": f"1 apps, port {port}"}
    assert alive == [{"WATCHDOG": "1"}] * 3
    assert stopping["STOPPING"] == "1"
