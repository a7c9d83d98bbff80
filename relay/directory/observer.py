"""Observations of passing events: gathered in memory, applied beside the event path.

Accepting an event never waits for this. A crash loses about a second of observations; the next
event of the same subscription, or the next export, brings them again.
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
"""Observations applied in one transaction: some milliseconds."""

MAX_WAITING = 20_000
"""Observations gathered while the disk is slow; further ones are dropped."""

MAX_CONFIRMED = 200_000
"""Subscriptions remembered as being in the directory just as the last event had them."""

Key: TypeAlias = tuple[str, str, str | None, str]
Arrival: TypeAlias = tuple[Record, int]


class Observer:
    """Carries observations of events to the directory.

    Attributes:
        heartbeat: Of its loop.
    """

    def __init__(
        self,
        directory: Directory,
        forgotten: ForgottenUsers,
        numbers: Mapping[str, int],
        clock: Clock,
    ) -> None:
        """Make an observer for the apps of these numbers in the segment table."""
        self._directory = directory
        self._forgotten = forgotten
        self._numbers = numbers
        self._clock = clock
        self.heartbeat = Heartbeat(clock)
        self._waiting: dict[Key, Arrival] = {}
        self._confirmed: dict[tuple[str, str], tuple[str, bool | None]] = {}
        self._offered: set[tuple[str, str]] = set()  # subscriptions, since the last flush began
        self._version = directory.version
        self._wakeup = anyio.Event()

    @property
    def has_forgotten(self) -> bool:
        """Whether there are forgotten users at all."""
        return bool(self._forgotten)

    def is_forgotten(self, app: str, external_id: str | None) -> bool:
        """Return whether an event's user is forgotten."""
        return external_id is not None and (self._numbers[app], external_id) in self._forgotten

    def names_forgotten(self, app: str, element: object) -> bool:
        """Return whether an element that is no readable event holds a forgotten user's id."""
        if not self._forgotten:
            return False
        number = self._numbers[app]
        return any((number, text) in self._forgotten for text in texts_in(element))

    def offer(self, app: str, record: Record, received_at: int) -> None:
        """Queue what an event says of its subscription; cheap, and never blocks.

        Of events of one kind about one user's subscription the last one suffices, and what the
        directory has just confirmed is not queued again.
        """
        if record.subscription_id is None:
            return
        if self._directory.version != self._version:
            self._forget_confirmed()
        known = self._confirmed.get((app, record.subscription_id))
        if known and known[0] == record.external_id:
            flag, is_proof = flag_of(record)
            if not is_proof or flag == known[1]:
                return
        key = (app, record.subscription_id, record.external_id, record.kind)
        if len(self._waiting) < MAX_WAITING or key in self._waiting:
            self._waiting[key] = (record, received_at)
            self._offered.add(key[:2])
            # What was confirmed is about to change: the next event may say it again and be news.
            self._confirmed.pop(key[:2], None)
            self._wakeup.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Apply queued observations until cancelled."""
        task_status.started()
        while True:
            self.heartbeat.beat(IDLE_S)
            with anyio.move_on_after(IDLE_S):
                await self._wakeup.wait()
            self._wakeup = anyio.Event()
            if self._waiting:
                await anyio.sleep(FLUSH_S)  # so that more share the transaction
                await self.flush()

    async def flush(self) -> None:
        """Apply what is queued so far."""
        waiting, self._waiting = self._waiting, {}
        self._offered.clear()
        if len(self._confirmed) > MAX_CONFIRMED:
            self._forget_confirmed()
        items = list(waiting.items())
        for start in range(0, len(items), CHUNK):
            self.heartbeat.beat()
            await self._apply(items[start : start + CHUNK])

    def _forget_confirmed(self) -> None:
        self._version = self._directory.version
        self._confirmed.clear()

    async def _apply(self, items: Sequence[tuple[Key, Arrival]]) -> None:
        by_app: dict[str, list[Observation]] = {}
        for (app, *_), (record, received_at) in items:
            observation = read_observation(record, received_at=received_at)
            if observation:
                by_app.setdefault(app, []).append(observation)
        now_ms = self._clock.now_ms()
        for app, observations in by_app.items():
            observations.sort(key=_instant)
            number = self._numbers[app]
            try:
                news = await self._directory.apply_observations(number, observations, now_ms)
            except StoreFull as error:
                log.warning("directory.evidence_lost", number=len(observations), reason=str(error))
                return
            self._confirm(app, observations, news)

    def _confirm(
        self, app: str, observations: Sequence[Observation], news: Collection[int]
    ) -> None:
        """Remember what the directory had already; what was new is checked once more."""
        # After any other change of the directory the answer may be out of date.
        if self._directory.version != self._version:
            return
        for place, observation in enumerate(observations):
            key = (app, observation.subscription_id)
            if place in news or key in self._offered:
                self._confirmed.pop(key, None)
            elif observation.external_id is not None and observation.is_proof_of_flag:
                self._confirmed[key] = (observation.external_id, observation.flag)
            elif observation.external_id is not None:
                self._confirmed.setdefault(key, (observation.external_id, None))


def _instant(observation: Observation) -> int:
    return observation.at
