"""The relay of the demo: a process of its own, killed and started again on one folder."""

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process

from relay.errors import RelayError

STOP_S: Final = 12.0
"""The contract gives an ordered stop less than ten."""

_LINES_SHOWN: Final = 12


class DemoFailed(RelayError):
    """The demo cannot go on."""


class StepTimeout(DemoFailed):
    """A step waited in vain for its effect; relay still runs."""


class RelayProcess:
    """`relay serve` in a process of its own.

    Attributes:
        log_path: Its output, over all of its starts.
    """

    def __init__(self, environment: Mapping[str, str], log_path: Path) -> None:
        self._environment = dict(environment)
        self._process: Process | None = None
        self.log_path = log_path

    @property
    def pid(self) -> int | None:
        """Id of the process, None while none runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process. It is not ready yet."""
        with self.log_path.open("ab") as log:
            self._process = await anyio.open_process(
                [sys.executable, "-m", "relay", "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def check_alive(self) -> None:
        """Make sure that relay has not ended by itself.

        Raises:
            DemoFailed: If it has.
        """
        code = None if self._process is None else self._process.returncode
        if code is not None:
            raise DemoFailed(f"relay ended by itself, exit code {code}")

    async def kill(self) -> None:
        """End the process with SIGKILL."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            await process.wait()

    async def stop(self) -> int:
        """End the process with SIGTERM and return its exit code.

        Raises:
            DemoFailed: If it does not end within `STOP_S`.
        """
        if self._process is None:
            raise DemoFailed("relay is not running")
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(STOP_S):
            return await process.wait()
        process.kill()
        await process.wait()
        raise DemoFailed(f"relay did not end within {STOP_S:g} s of SIGTERM")

    async def clear_away(self) -> None:
        """End the process in any way, also while the demo is being cancelled."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(2 * STOP_S):
            try:
                if self._process is not None:
                    await self.stop()
            except (DemoFailed, ProcessLookupError):
                await self.kill()


def last_lines(path: Path) -> list[str]:
    """Return the last lines of a log, none if there is no log."""
    try:
        with path.open(encoding="utf-8", errors="replace") as log:
            return [line.rstrip("\n") for line in deque(log, _LINES_SHOWN)]
    except FileNotFoundError:
        return []
