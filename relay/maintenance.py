"""Keeps the databases small: folds keys, prunes rows, forgets what is past its days.

Each step is a short transaction that shares a sync with whatever else is written, so that
accepting events never waits long for it. What is past its days is forgotten on the word of a
clock that is believed: by a leap of it everything is.
"""

from contextlib import suppress
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.clock import Clock, ClockStepDetector
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat
from relay.outbox.batch import DAY_MS
from relay.outbox.retention import Retention
from relay.segments.retention import Retention as SegmentsRetention

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MaintenancePolicy:
    """When to tidy up.

    Attributes:
        tick_s: Pause between two looks.
        fold_keys: Keys in memory that are folded at once; more make a fold cheaper per key,
            fewer keep memory and the rows that wait for the fold small.
        fold_s: Longest time any key waits for a fold.
        step_s: Pause between two steps of one tick.
        vacuum_pages: Free pages given back to the file system at a time.
    """

    tick_s: float = 1.0
    fold_keys: int = 20_000
    fold_s: float = 60.0
    step_s: float = 0.005
    vacuum_pages: int = 500


class OutboxMaintenance:
    """The loop that tidies up."""

    def __init__(
        self,
        retention: Retention,
        clock: Clock,
        heartbeat: Heartbeat,
        policy: MaintenancePolicy = MaintenancePolicy(),  # frozen
    ) -> None:
        self._retention = retention
        self._clock = clock
        self._heartbeat = heartbeat
        self._policy = policy
        self._watch = ClockStepDetector(clock)
        self._folded_at_s = float("-inf")  # a daemon that restarts often must fold too

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tidy up until cancelled."""
        task_status.started()
        while True:
            with suppress(StoreFull):  # no room to make room in; the next tick tries again
                await self.tidy()
            self._heartbeat.beat(self._policy.tick_s)
            await anyio.sleep(self._policy.tick_s)

    async def tidy(self) -> None:
        """Do all there is to do now."""
        if self._is_fold_due():
            await self._retention.fold()
            self._folded_at_s = self._clock.monotonic_s()
        while await self._retention.prune():
            await self._rest()
        if leapt_s := await self._retention.note_clock():
            log.warning("clock.leapt", seconds=round(leapt_s))
        while self._watch.is_trusted() and await self._retention.expire(
            self._clock.now_ms() // DAY_MS
        ):
            await self._rest()
        await self._retention.vacuum(self._policy.vacuum_pages)

    def _is_fold_due(self) -> bool:
        unfolded = self._retention.unfolded
        waited_s = self._clock.monotonic_s() - self._folded_at_s
        return unfolded >= self._policy.fold_keys or (
            unfolded > 0 and waited_s >= self._policy.fold_s
        )

    async def _rest(self) -> None:
        self._heartbeat.beat()
        await anyio.sleep(self._policy.step_s)


class SegmentsMaintenance:
    """The loop that tidies up the segment table: lists out of force, old changes and runs."""

    def __init__(
        self,
        retention: SegmentsRetention,
        clock: Clock,
        heartbeat: Heartbeat,
        policy: MaintenancePolicy = MaintenancePolicy(tick_s=5.0, step_s=0.02),  # frozen
    ) -> None:
        self._retention = retention
        self._clock = clock
        self._heartbeat = heartbeat
        self._policy = policy
        self._watch = ClockStepDetector(clock)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tidy up until cancelled."""
        task_status.started()
        while True:
            with suppress(StoreFull):  # no room to make room in; the next tick tries again
                await self.tidy()
            self._heartbeat.beat(self._policy.tick_s)
            await anyio.sleep(self._policy.tick_s)

    async def tidy(self) -> None:
        """Do all there is to do now."""
        while await self._retention.step(self._present_ms()):
            self._heartbeat.beat()
            await anyio.sleep(self._policy.step_s)
        await self._retention.vacuum(self._policy.vacuum_pages)

    def _present_ms(self) -> int:
        """Return what ages are counted to: nothing is old for a clock that is not believed."""
        return self._clock.now_ms() if self._watch.is_trusted() else 0
