"""Whether new events are taken now, and if not, why."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.outbox.ledger import Ledger
from relay.pulse import Pulse

log = structlog.get_logger(__name__)

MEASURE_S = 0.5
"""Pause between two looks at the free space."""


class Closed(StrEnum):
    """Why nothing new is taken."""

    STOPPING = "stopping"
    DISK_FULL = "disk_full"
    OUTBOX_FULL = "outbox_full"


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """When to take nothing more.

    Attributes:
        max_events: Pending events.
        min_free_bytes: Free space of the data directory's file system.
    """

    max_events: int
    min_free_bytes: int


class Admission:
    """Watches the disk and the outbox's size.

    Attributes:
        is_stopping: Whether the daemon is about to end.
    """

    def __init__(self, folder: Path, ledger: Ledger, limits: AdmissionLimits, pulse: Pulse) -> None:
        self._folder = folder
        self._ledger = ledger
        self._limits = limits
        self._pulse = pulse
        self._is_disk_full = False
        self.is_stopping = False

    @property
    def closed(self) -> Closed | None:
        """Why nothing new is taken now; None if it is."""
        if self.is_stopping:
            return Closed.STOPPING
        if self._is_disk_full:
            return Closed.DISK_FULL
        if self._ledger.pending >= self._limits.max_events:
            return Closed.OUTBOX_FULL
        return None

    def measure(self) -> None:
        """Look at the free space once."""
        space = os.statvfs(self._folder)
        free_bytes = space.f_bavail * space.f_frsize
        is_full = free_bytes < self._limits.min_free_bytes
        if is_full != self._is_disk_full:
            self._is_disk_full = is_full
            event = "disk.filled" if is_full else "disk.freed"
            log.warning(event, free_bytes=free_bytes, min_free_bytes=self._limits.min_free_bytes)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Measure until cancelled."""
        self.measure()
        task_status.started()
        while True:
            self._pulse.beat(MEASURE_S)
            await anyio.sleep(MEASURE_S)
            self.measure()
