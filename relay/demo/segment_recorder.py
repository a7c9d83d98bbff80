"""Records the segment views as another program sees them, reading without a pause.

It follows `segment_changes` from the first change and compares the outcome with
`segment_members` at every reading. What it saw is judged in `checks`.
"""

from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskStatus

from relay.demo.evidence import SegmentHistory
from relay.demo.expected import NO_MEMBERS, Members
from relay.demo.relay_process import StepTimeout
from relay.errors import StoreError
from relay.segments.views import ChangeRow, SegmentRow, Views, read_views

INTERVAL_S: Final = 0.02
WAIT_S: Final = 10.0


class SegmentRecorder:
    """Reads the segments of one app until cancelled, and compares the views.

    Attributes:
        history: What was seen so far.
        latest: The last reading.
        last_changes: By cohort, its latest changes that one reading saw together.
    """

    def __init__(self, path: Path, app: str) -> None:
        self._path = path
        self._app = app
        self._seq = 0
        self._followed: dict[str, set[str]] = {}
        self._was_read = anyio.Event()
        self._is_stopping = False
        self._ended: anyio.Event | None = None
        self.history = SegmentHistory()
        self.latest = Views({}, {}, [], [])
        self.last_changes: dict[str, list[ChangeRow]] = {}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read every `INTERVAL_S` until stopped."""
        self._ended = anyio.Event()
        task_status.started()
        while not self._is_stopping:
            await self._read()
            await anyio.sleep(INTERVAL_S)
        self._ended.set()

    async def _read(self) -> None:
        read = partial(read_views, self._path, self._app, after=self._seq)
        try:
            self.record(await anyio.to_thread.run_sync(read))
        except StoreError as error:
            self.history.errors.append(str(error))
        was_read, self._was_read = self._was_read, anyio.Event()
        was_read.set()

    async def stop(self) -> None:
        """End `run`, if it runs, after the reading under way."""
        self._is_stopping = True
        if self._ended is not None:
            await self._ended.wait()

    def record(self, views: Views) -> None:
        """Follow the changes of a reading, and compare the views with each other."""
        self.latest = views
        self.history.readings += 1
        together: dict[str, list[ChangeRow]] = {}
        for change in views.changes:
            self._follow(change)
            together.setdefault(change.cohort_id, []).append(change)
        self.last_changes |= together
        for cohort_id in views.members.keys() | self._followed.keys():
            seen = views.members.get(cohort_id, NO_MEMBERS)
            self._compare(cohort_id, seen, views.segments.get(cohort_id))
            history = self.history.seen.setdefault(cohort_id, [])
            if not history or history[-1] != seen:
                history.append(seen)

    def _follow(self, change: ChangeRow) -> None:
        followed = self._followed.setdefault(change.cohort_id, set())
        was_member, enters = change.external_id in followed, change.change == "entered"
        if change.seq <= self._seq or was_member == enters:
            self.history.contradictions.append(
                f"change {change.seq} does not follow from those before"
            )
        (followed.add if enters else followed.discard)(change.external_id)
        self.history.changes[change.cohort_id] += 1
        self._seq = max(self._seq, change.seq)

    def _compare(self, cohort_id: str, seen: Members, segment: SegmentRow | None) -> None:
        """Compare the members seen with the changes, and with the segment's own count."""
        followed = self._followed.get(cohort_id, set())
        if seen != followed:
            self.history.contradictions.append(
                f"{cohort_id}: the changes up to {self._seq} lead to {len(followed)} members, "
                f"the view has {len(seen)}, {len(seen ^ followed)} differ"
            )
        if segment is None or segment.matched_users != len(seen):
            self.history.contradictions.append(
                f"{cohort_id}: {len(seen)} members, but the segment tells of "
                f"{segment.matched_users if segment else 'none'}"
            )

    async def fresh(self) -> Views:
        """Return a reading that begins from now on.

        Raises:
            StepTimeout: If none comes within `WAIT_S`.
        """
        current = self.history.readings + 1  # the reading under way began before
        with anyio.move_on_after(WAIT_S):
            while self.history.readings <= current:
                await self._was_read.wait()
            return self.latest
        raise StepTimeout("the segment views cannot be read")
