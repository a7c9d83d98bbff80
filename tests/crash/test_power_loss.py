"""The power is cut at any moment: every event answered 200 is present, and segments are whole."""

import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from shutil import rmtree
from uuid import UUID

import anyio
import orjson
import pytest
from aiohttp import ClientSession

from relay.database.ballast import BallastFile
from relay.heartbeat import Heartbeat
from relay.outbox.dedup import dedup_key
from relay.outbox.store import DATABASE_NAME, lock_folder, open_outbox
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running as running_amplitude
from relay.sandbox.common.listener import running as running_cohorts
from relay.segments.cohorts import AppRules
from relay.segments.store import DATABASE_NAME as SEGMENTS_NAME
from relay.segments.store import open_segments
from tests.crash.crash_run import EndlessTraffic
from tests.crash.power_loss import Disk, Luck, fates
from tests.crash.recording import CALLS, Answer, Recording, Synced
from tests.support.clocks import START_MS, FakeClock
from tests.support.command_line import API_KEY, CommandLine
from tests.support.daemons import (
    APP,
    BEARER,
    BOOT_S,
    POLL_S,
    Doors,
    fast_relay,
    open_doors,
    running_daemon,
)
from tests.support.disks import small_disk
from tests.support.options import option
from tests.support.outboxes import census
from tests.support.relays import COHORT, cohort_message
from tests.support.segment_tables import SegmentFile

pytestmark = pytest.mark.slow

SECRET_KEY = "secret-key-of-the-test"
POLLED = "polled"
ONE = [f"user-{number}" for number in range(600)]
OTHER = [f"user-{number}" for number in range(300, 900)]
LISTS = (set[str](), set(ONE), set(OTHER))

SENDERS = 6
SINGLES = 8
"""Events of each sender, one per request."""

BULKS, BULK_EVENTS = 9, 1_000
"""Enough to trigger checkpoints while events come in, and to free pages."""

CONTROL = 80
"""After this many answers the power is cut as if syncs of a log did nothing."""

PROCESSES = 3
LONGEST_TEXT = 4_000_000

NEVER_SHORT = 1 << 60
"""Creates no ballast."""


@dataclass(frozen=True)
class Story:
    """Traces of a relay since its first start.

    Attributes:
        folder: Its data directory.
        traces: One file for each process.
        events: Ids of all events sent.
        delivered: Insert ids at Amplitude in the end.
    """

    folder: Path
    traces: Sequence[Path]
    events: Collection[str]
    delivered: Collection[str]

    def moments(self, recording: Recording) -> Iterator[Answer | Synced | None]:
        """Replay every process."""
        for trace in self.traces:
            with trace.open(encoding="latin-1") as lines:
                yield from recording.play(lines)


@dataclass
class Promised:
    """What the answers so far have promised.

    Attributes:
        events: Ids of events that must be on disk.
        users: Members of the segment of the cohorts webhook.
    """

    events: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)

    def record(self, answer: Answer, story: Story) -> None:
        """Record an answer."""
        if answer.webhook == "events":
            self.events |= answer.ids & set(story.events)
        else:
            self.users |= answer.ids


@pytest.fixture
async def story(tmp_path: Path) -> Story:
    """Three processes of a relay: one stopped in order, one killed, one pruning."""
    amplitude, cohorts = AmplitudeStandIn([API_KEY]), CohortsStandIn({API_KEY: SECRET_KEY})
    cohorts.put(StandInCohort(id=POLLED, user_ids=ONE))
    traces = [tmp_path / f"process-{number}" for number in range(PROCESSES)]
    async with running_amplitude(amplitude.app()) as ingest, running_cohorts(cohorts.app()) as url:
        relay = _relay(tmp_path, str(ingest), str(url).rstrip("/"))
        traffic = EndlessTraffic(9)
        async with open_doors(relay) as doors:
            async with _traced(relay, traces[0]):
                await _come_in(relay, doors, traffic)
                await _until(relay.folder / SEGMENTS_NAME, "SELECT count(*) FROM segments")
            async with _traced(relay, traces[1], is_killed=True):
                cohorts.put(StandInCohort(id=POLLED, user_ids=OTHER))
                await _come_in_bulks(doors, traffic)
                await _come_in(relay, doors, traffic)
                await _until(
                    relay.folder / SEGMENTS_NAME,
                    f"SELECT revision > 1 FROM segments WHERE cohort_id = '{POLLED}'",
                )
                await doors.drained()
            async with _traced(relay, traces[2]):
                await _come_in(relay, doors, traffic)
                await _until(relay.folder / DATABASE_NAME, TIDIED)
    held = amplitude.ledger.account(API_KEY).insert_ids
    return Story(relay.folder, traces, set(traffic.bodies), set(held))


TIDIED = (
    "SELECT (SELECT count(*) FROM events) < 1000"
    " AND (SELECT freelist_count FROM pragma_freelist_count) <= 500"
)


def _relay(folder: Path, ingest: str, cohorts: str) -> CommandLine:
    return fast_relay(
        folder,
        ingest,
        DELIVERY__MAX_BATCH_EVENTS="500",
        COHORTS__POLL_INTERVAL_S="0.2",
        COHORTS__EXPORT_POLL_S="0.1",
        COHORTS__MONTHLY_DOWNLOADS="100000",
        COHORTS__GUARD_REMOVED_RATIO="1",
        APPS__SHOP__MEMBERSHIP="all",
        APPS__SHOP__AMPLITUDE_SECRET_KEY=SECRET_KEY,
        APPS__SHOP__AMPLITUDE_COHORTS_URL=cohorts,
    )


@asynccontextmanager
async def _traced(
    relay: CommandLine, trace: Path, *, is_killed: bool = False
) -> AsyncIterator[None]:
    """Run one traced process of the daemon, then stop or kill it."""
    tracer = ["strace", "-D", "-f", "-q", "-y", "-s", str(LONGEST_TEXT), "-o", str(trace)]
    async with running_daemon(relay, under=[*tracer, "-e", f"trace={CALLS}"]) as daemon:
        await daemon.until("relay.ready")
        yield
        if is_killed:
            daemon.kill()
        else:
            daemon.terminate()
        await daemon.ended()


async def _come_in(relay: CommandLine, doors: Doors, traffic: EndlessTraffic) -> None:
    """Send events concurrently, one per request, and a cohort message with each."""
    async with anyio.create_task_group() as senders:
        for _ in range(SENDERS):
            senders.start_soon(_send, relay, doors, traffic)


async def _send(relay: CommandLine, doors: Doors, traffic: EndlessTraffic) -> None:
    for _ in range(SINGLES):
        name, body = traffic.one()
        assert (await doors.post(body))[0] == 200
        number = UUID(name).int
        await _push(relay, orjson.dumps(cohort_message(number, name)))


async def _push(relay: CommandLine, message: bytes) -> None:
    url = f"{relay.public}/v1/apps/{APP}/cohorts"
    async with ClientSession() as http, http.post(url, data=message, headers=BEARER) as answer:
        assert answer.status == 200


async def _come_in_bulks(doors: Doors, traffic: EndlessTraffic) -> None:
    for _ in range(BULKS):
        bodies = [traffic.one()[1] for _ in range(BULK_EVENTS)]
        assert (await doors.post(b"[%b]" % b",".join(bodies)))[0] == 200


async def _until(path: Path, holds: str) -> None:
    """Return once a query of a database is true."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
        with anyio.fail_after(BOOT_S):
            while not (raw.execute(holds).fetchone() or (0,))[0]:
                await anyio.sleep(POLL_S)


async def _wrongs(folder: Path, story: Story, promised: Promised) -> list[str]:
    """Open what a power cut left as a start does; return what is wrong."""
    with lock_folder(folder):
        ballast = BallastFile(folder, NEVER_SHORT)
        ballast.prepare_opening()
        heartbeat = Heartbeat(FakeClock())
        async with open_outbox(
            folder, [APP], max_events=1 << 30, heartbeat=heartbeat, make_room=ballast.make_room
        ) as outbox:
            counts = (await outbox.counters.states())[APP].counts
        rules = {APP: AppRules(takes_all=True, segment_limit=None)}
        async with open_segments(folder, rules, now_ms=START_MS, heartbeat=heartbeat):
            pass
    wrongs = [*_unsound(folder / DATABASE_NAME), *_unsound(folder / SEGMENTS_NAME)]
    found = census(folder, APP)
    if counts.pending != len(found.pending):
        wrongs.append(f"{len(found.pending)} events are pending, not {counts.pending}")
    if counts.dead != len(found.dead):
        wrongs.append(f"{len(found.dead)} events are dead, not {counts.dead}")
    there = {*found.pending, *found.delivered, *found.dead}
    there |= _recognised(folder, promised.events - there) & set(story.delivered)
    if lost := promised.events - there:
        wrongs.append(f"{len(lost)} events are lost")
    wrongs += [f"taken for damaged: {path.name}" for path in folder.glob("*.damaged-*")]
    return wrongs + _torn_segments(folder, promised)


def _unsound(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as raw:
        said = [line for (line,) in raw.execute("PRAGMA integrity_check")]
    return [] if said == ["ok"] else [f"{path.name}: {line}" for line in said]


def _recognised(folder: Path, names: Collection[str]) -> set[str]:
    """Return which events are deduplicated although their rows are gone."""
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as raw:
        seen = {key for (key,) in raw.execute("SELECT key FROM seen")}
        (no,) = raw.execute("SELECT no FROM apps WHERE app = ?", (APP,)).fetchone()
    return {name for name in names if dedup_key(no, name) in seen}


def _torn_segments(folder: Path, promised: Promised) -> list[str]:
    """Return what is wrong with the segment table: each segment is one whole revision."""
    wrongs = []
    file = SegmentFile(folder)
    if set(file.members(POLLED)) not in LISTS:
        wrongs.append(f"{POLLED} is no list of Amplitude's")
    if lost := promised.users - set(file.members(COHORT)):
        wrongs.append(f"{len(lost)} users of the cohorts webhook are lost")
    figures = dict(file.look("SELECT cohort_id, matched_users FROM segments"))
    for cohort in (POLLED, COHORT):
        found = set(file.members(cohort))
        if figures.get(cohort, 0) != len(found):
            wrongs.append(f"{cohort} has {len(found)} members, not {figures.get(cohort)}")
        followed: set[str] = set()
        for user, change in file.changes(cohort):
            (followed.add if change == "entered" else followed.discard)(user)
        if followed != found:
            wrongs.append(f"followers of {cohort} were told something else")
    return wrongs


def restore(folder: Path, files: dict[str, bytes] | None, rng: Random) -> None:
    """Write what a power cut left into a folder; SQLite's shared memory may hold anything."""
    rmtree(folder, ignore_errors=True)
    if files is None:
        return
    folder.mkdir()
    for name, content in files.items():
        with (folder / name).open("wb") as file:
            if name.endswith("-shm"):
                file.write(rng.randbytes(len(content)))
            elif content.strip(b"\0"):
                file.write(content)
            file.truncate(len(content))


@dataclass
class Cuts:
    """Power cuts of a story and what was wrong after them.

    Attributes:
        rng: Chooses where and how the power is cut.
        wrongs: Sentences.
        kinds: How often each kind of cut was tried.
    """

    story: Story
    place: Path
    rng: Random
    wrongs: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    async def cut(self, disk: Disk, luck: Luck, promised: Promised, where: str) -> None:
        """Cut the power, start, and check."""
        restore(self.place, disk.after_power_loss(luck, self.rng), self.rng)
        self.kinds[luck.name] += 1
        wrongs = await _wrongs(self.place, self.story, promised)
        self.wrongs += [f"{where}, {luck.name}: {wrong}" for wrong in wrongs]


@dataclass
class Timeline:
    """Where things happen in a story, by the number of the moment.

    Attributes:
        syncs: Ends of syncs.
        answers: Answers.
    """

    syncs: list[int] = field(default_factory=lambda: [0])
    answers: list[int] = field(default_factory=list)

    def places(self, rng: Random, number: int) -> list[int]:
        """Return where to cut: anywhere between two syncs, all intervals equally likely."""
        ends = (rng.choice(list(pairwise(self.syncs))) for _ in range(number))
        return sorted(rng.randint(*between) for between in ends)


def _course(story: Story, recording: Recording) -> Timeline:
    course = Timeline()
    for place, moment in enumerate(story.moments(recording), start=1):
        match moment:
            case Synced():
                course.syncs.append(place)
            case Answer():
                course.answers.append(place)
    return course


async def _cut_power(story: Story, cuts: Cuts, recording: Recording, places: Sequence[int]) -> None:
    """Replay a story and cut the power at some places, each in another way."""
    promised, due = Promised(), Counter(places)
    for place, moment in enumerate(story.moments(recording), start=1):
        if isinstance(moment, Answer):
            promised.record(moment, story)
        for _ in range(due[place]):
            lucks = fates(cuts.rng)
            luck = lucks[cuts.kinds.total() % len(lucks)]
            await cuts.cut(recording.disk, luck, promised, f"after moment {place}")
        if place == places[-1]:
            return


async def test_no_power_cut_loses_what_was_answered(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At any call, with any part of the unsynced changes on the disk."""
    number = option("POWER_CUTS", 100)
    rng = Random(option("POWER_SEED", 20261124))
    recording = Recording(story.folder)
    course = _course(story, recording)
    _assert_replay_is_exact(recording.disk, story)
    with small_disk(tmp_path / "memory") as memory:
        cuts = Cuts(story, memory / "data", rng)
        await _cut_power(story, cuts, Recording(story.folder), course.places(rng, number))
        for log in (f"{DATABASE_NAME}-wal", f"{SEGMENTS_NAME}-wal"):
            blind, recording = Cuts(story, memory / "data", rng), Recording(story.folder, log)
            await _cut_power(story, blind, recording, [course.answers[CONTROL]] * 2)
            assert any("are lost" in wrong for wrong in blind.wrongs)
    with capsys.disabled():
        sys.stdout.write(f"\n{number} power cuts: {dict(cuts.kinds)}\n")
    assert cuts.wrongs == [], "\n".join(cuts.wrongs)


def _assert_replay_is_exact(disk: Disk, story: Story) -> None:
    """Assert that the replay without losses equals the real files, byte for byte."""
    rng = Random(1)
    played = disk.after_power_loss(Luck("everything is spared", lambda _place, _number: True), rng)
    assert played is not None
    assert sorted(played) == sorted(path.name for path in story.folder.iterdir())
    for name, content in played.items():
        assert content == (story.folder / name).read_bytes()
