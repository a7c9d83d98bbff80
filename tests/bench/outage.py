"""An hour's outage of Amplitude with a million events behind it: its cost, and the recovery.

The daemon runs as a process with default settings, except for shorter waits between attempts, as
the hour is pressed into minutes: Amplitude answers 503, hangs, refuses connections, flaps, while
events arrive as before, and then as fast as they are accepted until enough wait. Then
Amplitude is back. A probe sends single events all the time and measures their response times.

    python tests/bench/outage.py [--events 1000000] [--seconds 10]
"""

import argparse
import gzip
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

import aiohttp
import anyio
import orjson
import psutil
from aiohttp import web

from tests.bench.acknowledgements import APP_ID, TOKEN, free_port, process, relay_environment

ARRAY = 500
STEADY_RATE = 2_000
PROBE_S = 0.02
LOOK_S = 0.25
FLAP_S = 1.0
TIDY_S = 120.0
"""Dedup keys are flushed within a minute, and rows wait for their keys."""

OUTAGE = ("503", "hang", "refuse", "flap")
PATIENCE = {
    "RELAY_DELIVERY__REQUEST_TIMEOUT_S": "3",
    "RELAY_DELIVERY__BACKOFF_BASE_S": "0.5",
    "RELAY_DELIVERY__BACKOFF_CAP_S": "4",
}


@dataclass
class Phase:
    """Observations during one phase.

    Attributes:
        name: The phase.
        waits_ms: Response times of the probe.
        rss_mb: Peak memory of the daemon.
        uploads: Uploads attempted.
        lasted_s: Duration of the phase.
    """

    name: str
    waits_ms: list[float] = field(default_factory=list)
    rss_mb: float = 0.0
    uploads: int = 0
    lasted_s: float = 0.0

    def wait_ms(self, share: float) -> float:
        """Return the response time that this share of the requests stayed within."""
        ordered = sorted(self.waits_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass
class Report:
    """Results of a run.

    Attributes:
        phases: In order.
        sent: Events answered with 200.
        arrived: Distinct events Amplitude accepted.
        repeated: Events it accepted more than once.
        drained_s: From Amplitude's return until nothing waited.
        full_mb: Size of the outbox's files with all events pending.
        empty_mb: The same once all was delivered and pruned.
    """

    phases: list[Phase] = field(default_factory=list)
    sent: int = 0
    arrived: int = 0
    repeated: int = 0
    drained_s: float = 0.0
    full_mb: float = 0.0
    empty_mb: float = 0.0

    def phase(self, name: str) -> Phase:
        """Return a phase by its name."""
        return next(phase for phase in self.phases if phase.name == name)


# Amplitude, as cheap as possible.


class Sink:
    """Counts what arrives, and fails on command."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._mode = "up"
        self._seen: set[str] = set()
        self._repeated = 0
        self._site: web.TCPSite | None = None
        self._runner: web.AppRunner | None = None

    async def serve(self, control_port: int) -> None:
        """Serve until killed."""
        app = web.Application(client_max_size=32 << 20)
        app.router.add_post("/2/httpapi", self._take)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await self._runner.setup()
        await self._open()
        control = web.Application()
        control.router.add_post("/{mode}", self._change)
        runner = web.AppRunner(control, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", control_port).start()
        await anyio.sleep_forever()

    async def _open(self) -> None:
        if self._site is None and self._runner is not None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
            await self._site.start()

    async def _change(self, request: web.Request) -> web.Response:
        self._mode = request.match_info["mode"]
        if self._mode == "refuse" and self._site is not None:
            await self._site.stop()
            self._site = None
        elif self._mode != "refuse":
            await self._open()
        return web.json_response({"arrived": len(self._seen), "repeated": self._repeated})

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self._mode == "503":
            return web.Response(status=503)
        is_hanging = self._mode == "hang"
        if is_hanging:
            await anyio.sleep(60)
        if is_hanging or self._mode != "up":
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        plain = gzip.decompress(body) if "Content-Encoding" in request.headers else body
        ids = [event["insert_id"] for event in orjson.loads(plain)["events"]]
        before = len(self._seen)
        self._seen.update(ids)
        self._repeated += len(ids) - (len(self._seen) - before)
        return web.json_response({"code": 200})


# The sender and the probe.


class Bench:
    """A run, seen from outside the daemon."""

    def __init__(self, ports: tuple[int, int, int], daemon: psutil.Process, folder: Path) -> None:
        self._public, self._admin, self._control = (f"http://127.0.0.1:{port}" for port in ports)
        self._daemon = daemon
        self._folder = folder
        self._numbers = itertools.count()
        self._http = aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"})
        self._phase = Phase("start")
        self._is_over = False
        self.report = Report()

    async def run(self, events: int, seconds: float) -> Report:
        """Run the outage; return what was observed."""
        async with self._http, anyio.create_task_group() as tasks:
            tasks.start_soon(self._probe)
            tasks.start_soon(self._look)
            with self._during("before"):
                await self._steady(seconds)
            for mode in OUTAGE:
                with self._during(mode):
                    async with self._misbehaving(mode):
                        await self._steady(seconds)
            with self._during("piling up"):
                await self._tell_sink("503")
                while (await self._app())["pending"] < events:
                    await self._post(ARRAY)
            self.report.full_mb = self._files_mb()
            with self._during("way back"):
                await self._tell_sink("up")
                await self._drain()
            with self._during("after"):
                await self._steady(seconds)
            await self._drain()
            self._is_over = True
        return self.report

    async def settle(self, tidy_s: float) -> None:
        """Count what arrived once nothing waits, and measure the files some time later."""
        async with aiohttp.ClientSession() as self._http:
            while (await self._app())["pending"]:
                await anyio.sleep(0.1)
            found = await self._tell_sink("up")
        self.report.arrived, self.report.repeated = found["arrived"], found["repeated"]
        await anyio.sleep(tidy_s)
        self.report.empty_mb = self._files_mb()

    @contextmanager
    def _during(self, name: str) -> Iterator[None]:
        self._phase, began_s = Phase(name), monotonic()
        self.report.phases.append(self._phase)
        yield
        self._phase.lasted_s = monotonic() - began_s

    @asynccontextmanager
    async def _misbehaving(self, mode: str) -> AsyncIterator[None]:
        before = await self._uploads()
        async with anyio.create_task_group() as tasks:
            if mode == "flap":
                tasks.start_soon(self._flap)
            else:
                await self._tell_sink(mode)
            yield
            tasks.cancel_scope.cancel()
        self._phase.uploads = await self._uploads() - before

    async def _flap(self) -> None:
        for mode in itertools.cycle(("refuse", "up", "503", "up")):
            await self._tell_sink(mode)
            await anyio.sleep(FLAP_S)

    async def _steady(self, seconds: float) -> None:
        """Send events at an even rate."""
        began_s, pause_s = monotonic(), ARRAY / STEADY_RATE
        for turn in itertools.count(1):
            await self._post(ARRAY)
            if monotonic() - began_s >= seconds:
                return
            await anyio.sleep(max(0.0, began_s + turn * pause_s - monotonic()))

    async def _probe(self) -> None:
        while not self._is_over:  # every request must be answered, or it could not be counted
            began_s, phase = monotonic(), self._phase
            await self._post(1)
            phase.waits_ms.append((monotonic() - began_s) * 1000)
            await anyio.sleep(PROBE_S)

    async def _look(self) -> None:
        while not self._is_over:
            rss_mb = self._daemon.memory_info().rss / 1e6
            self._phase.rss_mb = max(self._phase.rss_mb, rss_mb)
            await anyio.sleep(LOOK_S)

    async def _post(self, count: int) -> None:
        numbers = list(itertools.islice(self._numbers, count))
        body = b"[%b]" % b",".join(_event(number) for number in numbers)
        url = f"{self._public}/v1/apps/shop/events"
        async with self._http.post(url, data=body) as answer:
            if answer.status != 200 or (await answer.json())["accepted"] != count:
                raise SystemExit(f"not taken: {answer.status} {await answer.text()}")
        self.report.sent += count

    async def _drain(self) -> None:
        began_s = monotonic()
        while (await self._app())["pending"] > STEADY_RATE:  # the probe continues
            await anyio.sleep(0.1)
        self.report.drained_s = self.report.drained_s or monotonic() - began_s

    async def _app(self) -> dict[str, int]:
        async with self._http.get(f"{self._admin}/api/v1/status") as answer:
            app: dict[str, int] = (await answer.json())["apps"]["shop"]
        return app

    async def _uploads(self) -> int:
        async with self._http.get(f"{self._admin}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        counts = [line for line in lines if line.startswith("relay_uploads_total{")]
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in counts)

    async def _tell_sink(self, mode: str) -> dict[str, int]:
        async with self._http.post(f"{self._control}/{mode}") as answer:
            found: dict[str, int] = await answer.json()
        return found

    def _files_mb(self) -> float:
        return sum(file.stat().st_size for file in self._folder.glob("outbox.db*")) / 1e6


def _event(number: int) -> bytes:
    return (
        b'{"event":{"kind":"message.push.clicked","id":"outage-%d","timestamp":"1767261906",'
        b'"app_id":"%b","subscription_id":"device-%d","external_id":"user-%d"},'
        b'"message":{"id":"m-1","name":"offer","title":{"en":"Hello"},"contents":{"en":"%b"}}}'
    ) % (number, APP_ID.encode(), number % 50_000, number % 50_000, b"20% off " * 20)


def measure(events: int, seconds: float, tidy_s: float) -> Report:
    """Run everything; return the results.

    Args:
        events: How many wait at the end of the outage.
        seconds: Duration of each phase before that.
        tidy_s: When the files are measured once nothing waits.
    """
    port, admin, sink, control = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        words = [sys.executable, __file__, "--sink", str(sink), str(control)]
        environment = relay_environment(name, port, admin, sink) | PATIENCE
        with (
            process(words, control, PYTHONPATH=str(Path(__file__).parents[2])),
            process([sys.executable, "-m", "relay", "serve"], port, **environment) as daemon,
        ):
            bench = partial(Bench, (port, admin, control), psutil.Process(daemon.pid), Path(name))
            return anyio.run(_measure, bench, events, seconds, tidy_s)


async def _measure(make: Callable[[], Bench], events: int, seconds: float, tidy_s: float) -> Report:
    bench = make()
    await bench.run(events, seconds)
    await bench.settle(tidy_s)
    return bench.report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--sink", type=int, nargs=2, metavar=("PORT", "CONTROL_PORT"))
    options = parser.parse_args()
    if options.sink:
        anyio.run(Sink(options.sink[0]).serve, options.sink[1])
    report = measure(options.events, options.seconds, TIDY_S)
    usual = report.phase("before")
    for phase in report.phases:
        p50, p99 = phase.wait_ms(0.5), phase.wait_ms(0.99)
        print(
            f"{phase.name:10} {phase.lasted_s:6.1f} s   answers p50 {p50:6.1f} ms "
            f"({p50 / usual.wait_ms(0.5):4.1f}x)  p99 {p99:6.1f} ms "
            f"({p99 / usual.wait_ms(0.99):4.1f}x)   {phase.rss_mb:4.0f} MB"
            + (f"   {phase.uploads} uploads tried" if phase.name in OUTAGE else "")
        )
    print(
        f"{report.sent} events accepted, {report.arrived} arrived, {report.repeated} repeated; "
        f"those that waited drained within {report.drained_s:.0f} s"
    )
    print(f"files: {report.full_mb:.0f} MB full, {report.empty_mb:.0f} MB afterwards")


if __name__ == "__main__":
    main()
