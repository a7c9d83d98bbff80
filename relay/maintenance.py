"""One loop that keeps a database small: the outbox has one, the segment table another.

The store knows what to remove; the loop knows when. What is past its days is removed by a trusted
clock only: a clock that steps years ahead would otherwise remove everything.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.abc import TaskStatus

from relay.clock import Clock, SteadyClock
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat


class Retention(Protocol):
    """What a store removes in time."""

    async def step(self, now_ms: int) -> bool:
        """Do a piece of what is due, in short transactions; False when nothing was left.

        Raises:
            StoreFull: If there is no room.
        """

    async def vacuum(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system."""


@dataclass(frozen=True, slots=True)
class MaintenancePolicy:
    """How often a store is tidied.

    Attributes:
        tick_s: Pause once nothing is left to do.
        step_s: Pause between two steps, so that other writes get in between.
        vacuum_pages: Free pages given back to the file system at a time.
    """

    tick_s: float = 1.0
    step_s: float = 0.005
    vacuum_pages: int = 500


OUTBOX = MaintenancePolicy()
SEGMENTS = MaintenancePolicy(tick_s=5.0, step_s=0.02)


class Maintenance:
    """The loop that tidies a store."""

    def __init__(
        self, retention: Retention, clock: Clock, heartbeat: Heartbeat, policy: MaintenancePolicy
    ) -> None:
        self._retention = retention
        self._clock = SteadyClock(clock)
        self._heartbeat = heartbeat
        self._policy = policy

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tidy up until cancelled."""
        task_status.started()
        while True:
            with suppress(StoreFull):  # no room to make room in; the next tick tries again
                await self._tidy()
            self._heartbeat.beat(self._policy.tick_s)
            await anyio.sleep(self._policy.tick_s)

    async def _tidy(self) -> None:
        while await self._retention.step(self._now_ms()):
            self._heartbeat.beat()
            await anyio.sleep(self._policy.step_s)
        await self._retention.vacuum(self._policy.vacuum_pages)

    def _now_ms(self) -> int:
        """Return the time for ages: nothing is old at 0."""
        return self._clock.now_ms() if self._clock.is_trusted() else 0
