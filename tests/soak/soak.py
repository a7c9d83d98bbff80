"""A long run under high load and faults: does anything grow that should not?

PYTHONPATH=. python tests/soak/soak.py [--minutes 30] [--rate 2500]
"""

import argparse
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic

import aiohttp
import anyio
import orjson
import psutil

from relay.outbox.store import DATABASE_NAME as OUTBOX
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.segments.store import DATABASE_NAME as SEGMENTS
from tests.soak.counting_amplitude import CountingAmplitude, name_of
from tests.support.command_line import API_KEY, APP_ID
from tests.support.daemons import (
    BEARER,
    EVENTS_PATH,
    DaemonProcess,
    Doors,
    fast_relay,
    open_doors,
    running_daemon,
)

SECRET_KEY = "secret-key-of-the-test"
AT_ONCE = 25
"""Events of one request."""

SENDERS = 16
DEVICES = 5_000
MEMBERS = 20_000
SETTLE_S = 300.0

MB = 1_000_000
KEPT_PAGES = 500
"""Free pages kept for later events."""

SEEN_BYTES = 64
"""What an event's dedup key may leave behind: about 40 bytes, and free pages."""


@dataclass(frozen=True)
class Sample:
    """The daemon at one moment; sizes in MB."""

    at_s: float
    resident: float
    descriptors: float
    outbox_log: float
    segments_log: float
    outbox: float
    segments: float


@dataclass
class Load:
    """What was sent, and the outcome.

    Attributes:
        rate: Events a second.
        acknowledged: Numbers of the events answered 200.
        latencies_s: Response times of a sample of requests.
        refused: Responses other than 200.
    """

    rate: int
    acknowledged: list[range] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    _next: int = 0
    _began_s: float = field(default_factory=monotonic)

    async def send(self, url: str, http: aiohttp.ClientSession, until_s: float) -> None:
        """Post requests one after another, no faster than the rate allows."""
        while monotonic() < until_s:
            numbers = range(self._next, self._next + AT_ONCE)
            self._next += AT_ONCE
            ahead_s = numbers.start / self.rate - (monotonic() - self._began_s)
            if ahead_s > 0:
                await anyio.sleep(ahead_s)
            began_s = monotonic()
            async with http.post(url, data=_body(numbers), headers=BEARER) as answer:
                await answer.read()
            if answer.status == 200:
                self.acknowledged.append(numbers)
            else:
                self.refused += 1
            self.latencies_s.append(monotonic() - began_s)


def _body(numbers: range) -> bytes:
    return orjson.dumps(
        [
            {
                "event": {
                    "kind": "message.push.clicked",
                    "id": name_of(number),
                    "app_id": APP_ID,
                    "subscription_id": f"device-{number % DEVICES}",
                    "external_id": f"user-{number % DEVICES}",
                    "datetime": "2026-11-24T12:00:00Z",
                },
                "message": {"id": "m-1", "contents": {"en": "text " * 20}},
            }
            for number in numbers
        ]
    )


@dataclass(frozen=True)
class Report:
    """Results of a soak.

    Attributes:
        samples: The daemon, once a second.
        after: The daemon once everything was drained.
        load: What was sent.
        lost: Acknowledged events that never arrived.
        repeated: Events that arrived more than once under one insert_id.
        uploads: Requests at Amplitude.
        warnings: Kinds of warning in the log.
    """

    samples: Sequence[Sample]
    after: Sample
    load: Load
    lost: int
    repeated: int
    uploads: int
    crashes: int

    @property
    def sent(self) -> int:
        """Events that were acknowledged."""
        return sum(len(numbers) for numbers in self.load.acknowledged)

    def growth(self) -> Iterator[tuple[str, float, float, float]]:
        """Yield for each figure its median in the second and the last third, and its maximum."""
        third = len(self.samples) // 3
        for each in fields(Sample)[1:]:
            values = [getattr(sample, each.name) for sample in self.samples]
            yield each.name, median(values[third : 2 * third]), median(values[-third:]), max(values)


async def soak(folder: Path, seconds: float, rate: int, seed: int = 1) -> Report:
    """Run the daemon under load and faults for this long, then drain everything."""
    rng = Random(seed)
    amplitude = CountingAmplitude(round(rate * seconds * 1.1) + 10_000)
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    async with amplitude.serving() as ingest, running(cohorts.app()) as cohorts_url:
        relay = fast_relay(
            folder,
            ingest,
            DELIVERY__MAX_BATCH_EVENTS="1000",
            COHORTS__POLL_INTERVAL_S="2",
            COHORTS__EXPORT_POLL_S="0.2",
            COHORTS__MONTHLY_DOWNLOADS="1000000",
            COHORTS__GUARD_REMOVED_RATIO="1",
            APPS__SHOP__AMPLITUDE_SECRET_KEY=SECRET_KEY,
            APPS__SHOP__AMPLITUDE_COHORTS_URL=str(cohorts_url).rstrip("/"),
        )
        samples: list[Sample] = []
        load = Load(rate)
        async with running_daemon(relay) as daemon, open_doors(relay) as doors:
            await daemon.until("relay.ready")
            look = _looking(daemon, relay.folder)
            until_s = monotonic() + seconds
            async with anyio.create_task_group() as others:
                others.start_soon(amplitude.misbehave, rng, max(1.0, seconds / 60))
                others.start_soon(_recompute, cohorts, rng)
                others.start_soon(_watch, look, samples)
                await _send_all(load, f"{relay.public}{EVENTS_PATH}", until_s)
                others.cancel_scope.cancel()
            amplitude.behaviour = "none"
            await _at_rest(doors, relay.folder)
            after = look()
            crashes = len(daemon.logged("relay.crashed")) + len(daemon.logged("request.failed"))
    counts = [amplitude.counts[number] for numbers in load.acknowledged for number in numbers]
    return Report(
        samples,
        after,
        load,
        lost=counts.count(0),
        repeated=sum(count > 1 for count in counts),
        uploads=amplitude.uploads,
        crashes=crashes,
    )


async def _send_all(load: Load, url: str, until_s: float) -> None:
    async with aiohttp.ClientSession() as http, anyio.create_task_group() as senders:
        for _ in range(SENDERS):
            senders.start_soon(load.send, url, http, until_s)


async def _recompute(cohorts: CohortsStandIn, rng: Random) -> None:
    """Have a cohort change every few seconds, until cancelled."""
    while True:
        first = rng.randrange(DEVICES)
        ids = [f"user-{number}" for number in range(first, first + MEMBERS)]
        cohorts.put(StandInCohort(id="large", user_ids=ids))
        await anyio.sleep(5)


async def _watch(look: Callable[[], Sample], samples: list[Sample]) -> None:
    while True:
        samples.append(look())
        await anyio.sleep(1)


def _looking(daemon: DaemonProcess, folder: Path) -> Callable[[], Sample]:
    seen = psutil.Process(daemon.process.pid)
    began_s = monotonic()

    def look() -> Sample:
        names = (f"{OUTBOX}-wal", f"{SEGMENTS}-wal", OUTBOX, SEGMENTS)
        sizes = [(folder / name).stat().st_size / MB for name in names]
        memory = seen.memory_info().rss / MB
        return Sample(monotonic() - began_s, memory, seen.num_fds(), *sizes)

    return look


async def _at_rest(doors: Doors, folder: Path) -> None:
    """Return once nothing is pending, rows are pruned and their space is freed."""
    await doors.drained(within_s=SETTLE_S)
    path = f"file:{folder / OUTBOX}?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as raw, anyio.fail_after(SETTLE_S):
        while _left(raw) > KEPT_PAGES:
            await anyio.sleep(1)


def _left(raw: sqlite3.Connection) -> int:
    """Return the rows of events and the free pages of an outbox together."""
    (rows,) = raw.execute("SELECT count(*) FROM events").fetchone()
    (pages,) = raw.execute("PRAGMA freelist_count").fetchone()
    return int(rows + pages)


def main() -> int:
    """Soak, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, default=2_500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-soak-") as name:
        report = anyio.run(soak, Path(name), options.minutes * 60, options.rate)
    latencies = sorted(report.load.latencies_s)
    print(
        f"{report.sent} events in {options.minutes:g} minutes, {report.load.refused} requests "
        f"refused; {report.lost} lost, {report.repeated} uploaded more than once; "
        f"{report.uploads} uploads; requests of {AT_ONCE}: median "
        f"{latencies[len(latencies) // 2] * 1000:.0f} ms, "
        f"99 % within {latencies[len(latencies) * 99 // 100] * 1000:.0f} ms"
    )
    for name, earlier, later, most in report.growth():
        after = getattr(report.after, name)
        print(f"{name:14} {earlier:8.1f} {later:8.1f}   most {most:8.1f}   at rest {after:8.1f}")
    return 1 if report.lost or report.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
