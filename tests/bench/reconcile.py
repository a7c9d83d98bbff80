"""What a very large cohort costs, and what accepting events costs meanwhile.

relay runs between stand-ins of both services: a directory of a million users comes in by
OneSignal's export, a cohort of a million members by Amplitude's, in no order; then one member in
a hundred leaves and as many enter. The load generator (`wrk`) posts events at a steady pace: alone
first, then during each reconcile.

    python tests/bench/reconcile.py [--users 1000000] [--pause-ms 10] [--connections 32]
"""

import argparse
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import psutil

from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.onesignal.csv_export import CsvExportStandIn
from relay.sandbox.onesignal.export_files import SubscriberRange
from tests.bench.acknowledgements import (
    APP_ID,
    HERE,
    TOKEN,
    Run,
    free_port,
    process,
    read_run,
    relay_environment,
)

API_KEY, SECRET_KEY, ONESIGNAL_KEY = "amplitude-key-of-the-benchmark", "secret", "os_v2_app_key"
STRIDE = 611_953
"""A prime, so that its multiples visit all users in no order."""

DEADLINE_S = 300


@dataclass
class Watch:
    """What a phase cost.

    Attributes:
        seconds: Its duration.
        growth_mb: Peak resident memory of relay, above the value before.
        events: The load generator's results, None if it did not run.
    """

    seconds: float = 0.0
    growth_mb: float = 0.0
    events: Run | None = field(default=None)


@dataclass(frozen=True)
class Bench:
    """A relay under test and its surroundings."""

    port: int
    database: Path
    daemon: psutil.Process
    options: argparse.Namespace

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Query the segment table as another program would."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as raw:
            return raw.execute(query).fetchall()

    @contextmanager
    def load(self, watch: Watch, prefix: str) -> Iterator[None]:
        """Post events while the block runs."""
        words = ["wrk", "-t1", f"-c{self.options.connections}", f"-d{DEADLINE_S}s", "--latency"]
        words += ["-s", str(HERE / "load.lua"), f"http://127.0.0.1:{self.port}"]
        words += ["--", "/v1/apps/shop/events", TOKEN, prefix, str(self.options.pause_ms)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as generator:
            yield
            generator.send_signal(signal.SIGINT)
            watch.events = read_run(generator.communicate()[0])

    @asynccontextmanager
    async def watched(self, query: str, wanted: object) -> AsyncIterator[Watch]:
        """Measure from the block's end until a query gives the wanted result."""
        watch = Watch()
        before_mb = self.daemon.memory_info().rss / 1e6
        began_s = time.monotonic()
        yield watch
        with anyio.fail_after(DEADLINE_S):
            while self.ask(query) != [(wanted,)]:
                resident_mb = self.daemon.memory_info().rss / 1e6
                watch.growth_mb = max(watch.growth_mb, resident_mb - before_mb)
                await anyio.sleep(0.05)
        watch.seconds = time.monotonic() - began_s


def member_ids(users: int, first: int) -> Iterator[str]:
    """Yield this many ids from number `first` on, in no order."""
    for place in range(users):
        yield f"user-{first + place * STRIDE % users}"


async def measure(options: argparse.Namespace) -> None:
    """Run the phases and print what they cost."""
    users, moved = options.users, options.users // 100
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    cohorts.conditions.limits.per_month = 10_000
    exports = CsvExportStandIn({APP_ID: ONESIGNAL_KEY})
    exports.put(SubscriberRange(stop=users + moved, email_every=3, unsubscribed_every=10))
    port, admin_port, sink_port = free_port(), free_port(), free_port()
    sink = [sys.executable, str(HERE / "servers.py"), "sink", str(sink_port)]
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder, process(sink, sink_port):
        async with running(cohorts.app()) as amplitude, running(exports.app()) as onesignal:
            environment = {
                **relay_environment(folder, port, admin_port, sink_port),
                "RELAY_COHORTS__POLL_INTERVAL_S": "0.5",
                "RELAY_COHORTS__EXPORT_POLL_S": "0.2",
                "RELAY_COHORTS__MONTHLY_DOWNLOADS": "10000",
                "RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY": SECRET_KEY,
                "RELAY_APPS__SHOP__AMPLITUDE_COHORTS_URL": str(amplitude).rstrip("/"),
                "RELAY_APPS__SHOP__ONESIGNAL_API_KEY": ONESIGNAL_KEY,
                "RELAY_APPS__SHOP__ONESIGNAL_API_URL": str(onesignal).rstrip("/"),
            }
            words = [sys.executable, "-m", "relay", "serve"]
            with process(words, port, **environment) as daemon:
                database = Path(folder) / "segments.db"
                bench = Bench(port, database, psutil.Process(daemon.pid), options)
                await phases(bench, cohorts, users, moved)


async def phases(bench: Bench, cohorts: CohortsStandIn, users: int, moved: int) -> None:
    """Directory, quiet load, first reconcile, change."""
    async with bench.watched("SELECT synced_at IS NOT NULL FROM apps", 1) as directory:
        pass
    show(f"directory of {users + moved:,} users", directory, "")
    quiet = Watch()
    with bench.load(quiet, "q"):
        await anyio.sleep(8)
    applied = "SELECT count(*) FROM cohort_runs WHERE state = 'applied'"
    first = Watch()
    with bench.load(first, "f"):
        async with bench.watched(applied, 1) as cost:
            ids = partial(member_ids, users, 0)
            cohorts.put(StandInCohort(id="large", name="Large", user_ids=ids))
    cost.events = first.events
    show(f"first reconcile of {users:,} members", cost, "under 30 s, under 150 MB")
    second = Watch()
    with bench.load(second, "c"):
        async with bench.watched(applied, 2) as change:
            ids = partial(member_ids, users, moved)
            cohorts.put(StandInCohort(id="large", name="Large", user_ids=ids))
    change.events = second.events
    show("change of 1 %", change, "under 8 s, under 150 MB")
    compare(quiet.events, first.events, second.events)


def show(what: str, watch: Watch, wanted: str) -> None:
    """Print what a phase cost."""
    print(f"{what}: {watch.seconds:.1f} s, {watch.growth_mb:.0f} MB more at the peak ({wanted})")


def compare(quiet: Run | None, *others: Run | None) -> None:
    """Print what accepting events cost, alone and during a reconcile."""
    if quiet is None:
        return
    print(f"events alone: {quiet.rate:.0f}/s, p50 {quiet.p50_ms:.2f} ms, p99 {quiet.p99_ms:.2f} ms")
    for what, run in zip(("first reconcile", "change"), others, strict=True):
        if run:
            print(
                f"events during the {what}: {run.rate:.0f}/s, p50 {run.p50_ms:.2f} ms, "
                f"p99 {run.p99_ms:.2f} ms, ratio {run.p99_ms / quiet.p99_ms:.1f} "
                "(at most 3, under 50 ms)"
            )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--pause-ms", type=int, default=10)
    anyio.run(measure, parser.parse_args())


if __name__ == "__main__":
    main()
