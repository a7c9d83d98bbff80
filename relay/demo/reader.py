"""Another program that reads `segments.db`: all the time, with plain SQLite, not through relay.

Every reading is one snapshot. It follows `segment_changes` from the beginning and holds what that
gives against `segment_members` each time; what it saw is judged elsewhere (`revisions`).
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import anyio
from anyio.abc import TaskStatus

from relay.demo.process import Stuck
from relay.demo.truth import Members

PAUSE_S: Final = 0.02
WAIT_S: Final = 10.0
NOBODY: Final[Members] = frozenset()

_SEGMENTS: Final = """
SELECT cohort_id, name, state, cohort_size, matched_users, subscribed_count, revision
FROM segments WHERE app = ?
"""
_MEMBERS: Final = "SELECT cohort_id, external_id FROM segment_members WHERE app = ?"
_CHANGES: Final = """
SELECT seq, cohort_id, external_id, change FROM segment_changes
WHERE app = ? AND seq > ? ORDER BY seq
"""
_RUNS: Final = """
SELECT run_id, cohort_id, source, state, added, removed, reason FROM cohort_runs
WHERE app = ? ORDER BY run_id
"""


class SegmentRow(NamedTuple):
    """A segment as the view shows it."""

    cohort_id: str
    name: str
    state: str
    cohort_size: int
    matched_users: int
    subscribed_count: int
    revision: int


class ChangeRow(NamedTuple):
    """Somebody `entered` or `left` a segment."""

    seq: int
    cohort_id: str
    external_id: str
    change: str


class RunRow(NamedTuple):
    """An attempt to bring a segment up to date."""

    run_id: int
    cohort_id: str
    source: str
    state: str
    added: int
    removed: int
    reason: str | None


class Snapshot(NamedTuple):
    """What one reading saw.

    Attributes:
        segments: By cohort.
        members: By cohort.
        changes: Since the reading before.
        runs: All, oldest first.
    """

    segments: Mapping[str, SegmentRow]
    members: Mapping[str, Members]
    changes: list[ChangeRow]
    runs: list[RunRow]


@dataclass(slots=True)
class Readings:
    """What all readings saw.

    Attributes:
        number: How many they were.
        sights: By cohort, the members seen, without immediate repetitions.
        changes: By cohort, how many changes there were.
        quarrels: Where one view contradicts another.
        failures: Why there was nothing to be read.
    """

    number: int = 0
    sights: dict[str, list[Members]] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)
    quarrels: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Reader:
    """Reads the segments of one app until cancelled, and holds each view against the others.

    Attributes:
        readings: What was seen so far.
        latest: The last reading.
        last_changes: By cohort, the last changes that came together.
    """

    def __init__(self, path: Path, app: str) -> None:
        self._path = path
        self._app = app
        self._seq = 0
        self._followed: dict[str, set[str]] = {}
        self._heartbeat = anyio.Event()
        self.readings = Readings()
        self.latest = Snapshot({}, {}, [], [])
        self.last_changes: dict[str, list[ChangeRow]] = {}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read, follow, and wake whoever waits."""
        task_status.started()
        while True:
            try:
                read = partial(read_snapshot, self._path, self._app, self._seq)
                self.take(await anyio.to_thread.run_sync(read))
            except sqlite3.Error as error:
                self.readings.failures.append(str(error))
            heartbeat, self._heartbeat = self._heartbeat, anyio.Event()
            heartbeat.set()
            await anyio.sleep(PAUSE_S)

    def take(self, snapshot: Snapshot) -> None:
        """Follow the changes of a snapshot, and hold them against its members."""
        self.latest = snapshot
        self.readings.number += 1
        for change in snapshot.changes:
            self._follow(change)
        for cohort_id in snapshot.members.keys() | self._followed.keys():
            seen = snapshot.members.get(cohort_id, NOBODY)
            followed = self._followed.get(cohort_id, set())
            if seen != followed:
                self.readings.quarrels.append(
                    f"{cohort_id}: the changes up to {self._seq} lead to {len(followed)} members, "
                    f"the view has {len(seen)}, {len(seen ^ followed)} differ"
                )
            segment = snapshot.segments.get(cohort_id)
            if segment is None or segment.matched_users != len(seen):
                self.readings.quarrels.append(
                    f"{cohort_id}: {len(seen)} members, but the segment tells of "
                    f"{segment.matched_users if segment else 'none'}"
                )
            sights = self.readings.sights.setdefault(cohort_id, [])
            if not sights or sights[-1] != seen:
                sights.append(seen)
        self.last_changes |= _by_cohort(snapshot.changes)

    def _follow(self, change: ChangeRow) -> None:
        followed = self._followed.setdefault(change.cohort_id, set())
        was_member, enters = change.external_id in followed, change.change == "entered"
        if change.seq <= self._seq or was_member == enters:
            self.readings.quarrels.append(f"change {change.seq} does not follow from those before")
        (followed.add if enters else followed.discard)(change.external_id)
        self.readings.changes[change.cohort_id] += 1
        self._seq = max(self._seq, change.seq)

    async def fresh(self) -> Snapshot:
        """Return a reading that begins from now on.

        Raises:
            Stuck: If none comes.
        """
        number = self.readings.number + 1  # the one under way began before
        with anyio.move_on_after(WAIT_S):
            while self.readings.number <= number:
                await self._heartbeat.wait()
            return self.latest
        raise Stuck("the segment table cannot be read")


def _by_cohort(changes: Iterable[ChangeRow]) -> dict[str, list[ChangeRow]]:
    found: dict[str, list[ChangeRow]] = {}
    for change in changes:
        found.setdefault(change.cohort_id, []).append(change)
    return found


def read_snapshot(path: Path, app: str, after: int) -> Snapshot:
    """Return what stands in a segment table, all of it at one instant.

    Args:
        path: The file.
        app: Whose segments.
        after: The `seq` of the last change that is known already.

    Raises:
        sqlite3.Error: If it cannot be read.
    """
    with closing(
        sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    ) as raw:
        raw.execute("BEGIN")
        segments = [SegmentRow(*row) for row in raw.execute(_SEGMENTS, (app,))]
        members: dict[str, set[str]] = {}
        for cohort_id, external_id in raw.execute(_MEMBERS, (app,)):
            members.setdefault(cohort_id, set()).add(external_id)
        return Snapshot(
            {segment.cohort_id: segment for segment in segments},
            {cohort_id: frozenset(found) for cohort_id, found in members.items()},
            [ChangeRow(*row) for row in raw.execute(_CHANGES, (app, after))],
            [RunRow(*row) for row in raw.execute(_RUNS, (app,))],
        )
