"""The real command in its own process and environment."""

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process

from tests.support import preloaded

APP_ID = "11111111-2222-4333-8444-555555555555"
WEBHOOK_TOKEN = "webhook-token-of-the-test"
API_KEY = "amplitude-key-of-the-test"
SECRETS = (WEBHOOK_TOKEN, API_KEY)

DEADLINE_S = 20.0

READY = b'"relay.ready"'


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


def free_port() -> int:
    """Return a TCP port with no listener."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


class CommandLine:
    """Runs `relay` over one data directory.

    Attributes:
        folder: The data directory; not created here.
        env: Environment of every command.
        public: URL of the public door.
        admin: URL of the admin door.
    """

    def __init__(self, root: Path, **changes: str) -> None:
        self.folder = root / "data"
        public, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.public, self.admin = f"http://{public}", f"http://{admin}"
        kept = {name: text for name, text in os.environ.items() if not name.startswith("RELAY_")}  # noqa: TID251
        self.env = {
            **kept,
            "RELAY_DATA_DIR": str(self.folder),
            "RELAY_LISTEN": public,
            "RELAY_ADMIN_LISTEN": admin,
            "RELAY_LOG_FORMAT": "json",
            "RELAY_OUTBOX__MIN_FREE_BYTES": "0",
            "RELAY_APPS__SHOP__ONESIGNAL_APP_ID": APP_ID,
            "RELAY_APPS__SHOP__WEBHOOK_TOKENS": WEBHOOK_TOKEN,
            "RELAY_APPS__SHOP__AMPLITUDE_API_KEY": API_KEY,
            "RELAY_APPS__SHOP__AMPLITUDE_INGEST_URL": f"http://127.0.0.1:{free_port()}",
            **changes,
        }

    def add_app(self, name: str) -> None:
        """Configure one more app."""
        prefix = f"RELAY_APPS__{name.upper()}__"
        self.env[f"{prefix}ONESIGNAL_APP_ID"] = APP_ID
        self.env[f"{prefix}WEBHOOK_TOKENS"] = WEBHOOK_TOKEN
        self.env[f"{prefix}AMPLITUDE_API_KEY"] = API_KEY

    async def run(self, *words: str, **changes: str) -> Finished:
        """Run a command to its end without a terminal."""
        with anyio.fail_after(DEADLINE_S):
            done = await anyio.run_process(
                preloaded.command(words),
                env={**self.env, **changes},
                check=False,
                stdin=subprocess.DEVNULL,
            )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> Process:
        """Start a command and leave it running."""
        return await anyio.open_process(preloaded.command(words), env=self.env, stdin=stdin)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Process]:
        """Run the daemon while the block runs; it is ready when the block begins."""
        daemon = await self.start("serve")
        try:
            await read_until(daemon, READY)
            yield daemon
            if daemon.returncode is None:
                daemon.send_signal(signal.SIGTERM)
                await ended(daemon)
        finally:
            if daemon.returncode is None:
                daemon.kill()
            with anyio.CancelScope(shield=True):
                await daemon.aclose()


async def read_until(process: Process, mark: bytes) -> bytes:
    """Return what a process prints up to and including `mark`."""
    assert process.stdout is not None
    printed = bytearray()
    with anyio.fail_after(DEADLINE_S):
        while mark not in printed:
            printed += await process.stdout.receive()
    return bytes(printed)


async def ended(process: Process) -> int:
    """Wait for the end of a process and return its exit code."""
    with anyio.fail_after(DEADLINE_S):
        return await process.wait()
