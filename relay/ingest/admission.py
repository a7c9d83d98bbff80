"""Whether new events are accepted now, and if not, why."""

from enum import StrEnum

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.database.ballast import BallastFile
from relay.heartbeat import Heartbeat
from relay.outbox.counters import AppCounters

log = structlog.get_logger(__name__)

LOOK_S = 0.5
"""Pause between two checks of the free space."""


class RejectReason(StrEnum):
    """Why new events are rejected."""

    STOPPING = "stopping"
    DISK_FULL = "disk_full"
    OUTBOX_FULL = "outbox_full"


class AdmissionControl:
    """Watches the free space and the outbox's size.

    Attributes:
        max_events: Pending events at which new ones are rejected; it may be replaced at any time.
        is_stopping: Whether the daemon is about to end.
    """

    def __init__(
        self, ballast: BallastFile, counters: AppCounters, heartbeat: Heartbeat, *, max_events: int
    ) -> None:
        self._ballast = ballast
        self._counters = counters
        self._heartbeat = heartbeat
        self.max_events = max_events
        self.is_stopping = False

    @property
    def unavailable_reason(self) -> RejectReason | None:
        """Why no request is processed at all now, not even a repetition; None if it is."""
        if self.is_stopping:
            return RejectReason.STOPPING
        return RejectReason.DISK_FULL if self._ballast.is_short else None

    @property
    def reject_reason(self) -> RejectReason | None:
        """Why new events are rejected now; None if they are accepted."""
        if reason := self.unavailable_reason:
            return reason
        # Not among the above: repetitions of accepted events are answered even by a full outbox.
        if self._counters.pending >= self.max_events:
            return RejectReason.OUTBOX_FULL
        return None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Check the free space until cancelled; log when it runs out and when it is back."""
        task_status.started()
        was_short = False
        while True:
            self._ballast.refresh()
            if self._ballast.is_short != was_short:
                was_short = self._ballast.is_short
                event = "disk.filled" if was_short else "disk.freed"
                log.warning(event, free_bytes=self._ballast.free_bytes)
            self._heartbeat.beat(LOOK_S)
            await anyio.sleep(LOOK_S)
