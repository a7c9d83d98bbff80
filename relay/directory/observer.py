"""What passing events tell the directory: gathered in memory, written beside the event path.

Accepting an event never waits for it. A crash loses a second's worth of it; the next event of
the same subscription, or the next export, says it again.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.clock import Clock
from relay.errors import StoreFull
from relay.events.observation import Observation, flag_of, read_observation
from relay.events.records import Record
from relay.events.texts import texts_in
from relay.heartbeat import Heartbeat
from relay.segments.directory import Directory
from relay.segments.erasure import ForgottenUsers

log = structlog.get_logger(__name__)

FLUSH_S = 0.5
IDLE_S = 5.0
CHUNK = 250
"""Pieces of evidence applied in one transaction: some milliseconds."""

MAX_WAITING = 20_000
"""What is gathered while the disk is slow; more is dropped, for the next export to tell."""

MAX_CONFIRMED = 200_000
"""Subscriptions of which it is remembered that the directory agrees with the last event."""

Key: TypeAlias = tuple[str, str, str | None, str]
Told: TypeAlias = tuple[Record, int]


class Observer:
    """Carries what events tell to the directory.

    Attributes:
        heartbeat: Its sign of life.
    """

    def __init__(
        self,
        directory: Directory,
        forgotten: ForgottenUsers,
        numbers: Mapping[str, int],
        clock: Clock,
    ) -> None:
        """Make a feed for the apps of these numbers in the segment table."""
        self._directory = directory
        self._forgotten = forgotten
        self._numbers = numbers
        self._clock = clock
        self.heartbeat = Heartbeat(clock)
        self._waiting: dict[Key, Told] = {}
        self._confirmed: dict[tuple[str, str], tuple[str, bool | None]] = {}
        self._spoken: set[tuple[str, str]] = set()  # of whom more came since the last flush began
        self._version = directory.version
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
        """Take what an event tells, to be read and written soon; costs an event next to nothing.

        Of events of one kind about one user's subscription the last to come is enough, and what
        the directory just confirmed need not be asked again.
        """
        if record.subscription_id is None:
            return
        if self._directory.version != self._version:
            self._begin_anew()
        known = self._confirmed.get((app, record.subscription_id))
        if known and known[0] == record.external_id:
            flag, is_proof = flag_of(record)
            if not is_proof or flag == known[1]:
                return
        key = (app, record.subscription_id, record.external_id, record.kind)
        if len(self._waiting) < MAX_WAITING or key in self._waiting:
            self._waiting[key] = (record, received_at)
            self._spoken.add(key[:2])
            self._confirmed.pop(key[:2], None)  # the next event may say again what it said
            self._wakeup.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write what is gathered, until cancelled."""
        task_status.started()
        while True:
            self.heartbeat.beat(IDLE_S)
            with anyio.move_on_after(IDLE_S):
                await self._wakeup.wait()
            self._wakeup = anyio.Event()
            if self._waiting:
                await anyio.sleep(FLUSH_S)  # company for the first of them
                await self.flush()

    async def flush(self) -> None:
        """Write what is gathered so far."""
        waiting, self._waiting = self._waiting, {}
        self._spoken.clear()
        if len(self._confirmed) > MAX_CONFIRMED:
            self._begin_anew()
        items = list(waiting.items())
        for start in range(0, len(items), CHUNK):
            self.heartbeat.beat()
            await self._write(items[start : start + CHUNK])

    def _begin_anew(self) -> None:
        self._version = self._directory.version
        self._confirmed.clear()

    async def _write(self, items: Sequence[tuple[Key, Told]]) -> None:
        by_app: dict[str, list[Observation]] = {}
        for (app, *_), (record, received_at) in items:
            evidence = read_observation(record, received_at=received_at)
            if evidence:
                by_app.setdefault(app, []).append(evidence)
        now_ms = self._clock.now_ms()
        for app, told in by_app.items():
            told.sort(key=_instant)
            try:
                news = await self._directory.apply_observations(self._numbers[app], told, now_ms)
            except StoreFull as error:
                log.warning("directory.evidence_lost", number=len(told), reason=str(error))
                return
            self._confirm(app, told, news)

    def _confirm(self, app: str, told: Sequence[Observation], news: Collection[int]) -> None:
        """Remember what the directory held already; what was new is asked about once more."""
        if self._directory.version != self._version:
            return  # somebody else changed it since it was asked
        for place, evidence in enumerate(told):
            key = (app, evidence.subscription_id)
            if place in news or key in self._spoken:
                self._confirmed.pop(key, None)
            elif evidence.external_id is not None and evidence.is_proof_of_flag:
                self._confirmed[key] = (evidence.external_id, evidence.flag)
            elif evidence.external_id is not None:
                self._confirmed.setdefault(key, (evidence.external_id, None))


def _instant(evidence: Observation) -> int:
    return evidence.at
