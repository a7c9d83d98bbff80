"""What passing events tell the directory: gathered in memory, written beside the event path.

Accepting an event never waits for it. A crash loses a second's worth of it; the next event of
the same subscription, or the next export, says it again.
"""

from collections.abc import Mapping

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.clock import Clock
from relay.directory.evidence import Evidence, read_evidence
from relay.errors import StoreFull
from relay.events.records import Record
from relay.events.texts import texts_in
from relay.pulse import Pulse
from relay.segments.directory import Directory
from relay.segments.forgetting import Forgotten

log = structlog.get_logger(__name__)

FLUSH_S = 0.5
IDLE_S = 5.0
CHUNK = 1_000
"""Pieces of evidence applied in one transaction."""

MAX_WAITING = 100_000
"""What is gathered while the disk is slow; more is dropped, for the next export to tell."""


class Feed:
    """Carries what events tell to the directory.

    Attributes:
        pulse: Its sign of life.
    """

    def __init__(
        self, directory: Directory, forgotten: Forgotten, numbers: Mapping[str, int], clock: Clock
    ) -> None:
        """Make a feed for the apps of these numbers in the segment table."""
        self._directory = directory
        self._forgotten = forgotten
        self._numbers = numbers
        self._clock = clock
        self.pulse = Pulse(clock)
        self._waiting: dict[tuple[int, str, bool], Evidence] = {}
        self._wakeup = anyio.Event()

    @property
    def knows_forgotten(self) -> bool:
        """Whether anybody is forgotten at all."""
        return bool(self._forgotten)

    def is_forgotten(self, app: str, external_id: str | None) -> bool:
        """Tell whether an event is about somebody who is forgotten."""
        return external_id is not None and (self._numbers[app], external_id) in self._forgotten

    def speaks_of_forgotten(self, app: str, element: object) -> bool:
        """Tell whether what is not understood as an event holds the id of somebody forgotten."""
        if not self._forgotten:
            return False
        number = self._numbers[app]
        return any((number, text) in self._forgotten for text in texts_in(element))

    def offer(self, app: str, record: Record, received_at: int) -> None:
        """Take what an event tells, to be written soon."""
        evidence = read_evidence(record, received_at=received_at)
        if evidence is None:
            return
        key = (self._numbers[app], evidence.subscription_id, evidence.is_proof_of_flag)
        former = self._waiting.get(key)
        if former is None and len(self._waiting) >= MAX_WAITING:
            return
        if former is None or former.at <= evidence.at:
            self._waiting[key] = evidence
            self._wakeup.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write what is gathered, until cancelled."""
        task_status.started()
        while True:
            self.pulse.beat(IDLE_S)
            with anyio.move_on_after(IDLE_S):
                await self._wakeup.wait()
            self._wakeup = anyio.Event()
            if self._waiting:
                await anyio.sleep(FLUSH_S)  # company for the first of them
                await self.flush()

    async def flush(self) -> None:
        """Write what is gathered so far."""
        waiting, self._waiting = self._waiting, {}
        items = list(waiting.items())
        for start in range(0, len(items), CHUNK):
            self.pulse.beat()
            await self._write(items[start : start + CHUNK])

    async def _write(self, items: list[tuple[tuple[int, str, bool], Evidence]]) -> None:
        by_app: dict[int, list[Evidence]] = {}
        for (app, _, _), evidence in items:
            by_app.setdefault(app, []).append(evidence)
        now_ms = self._clock.now_ms()
        for app, told in by_app.items():
            try:
                await self._directory.heed(app, sorted(told, key=_instant), now_ms)
            except StoreFull as error:
                log.warning("directory.evidence_lost", number=len(told), reason=str(error))
                return


def _instant(evidence: Evidence) -> int:
    return evidence.at
