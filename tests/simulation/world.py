"""Everything of one run: relay starts and ends until all recovers, drains and is judged."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from random import Random

import anyio

from relay.delivery.pool import SenderPool
from relay.errors import StoreError
from relay.outbox.store import Outbox
from tests.simulation.amplitude import Project
from tests.simulation.app import App
from tests.simulation.clock import WallClock
from tests.simulation.disk import Disk
from tests.simulation.journal import Journal, Listener
from tests.simulation.mutants import Mutant
from tests.simulation.operators import Operators
from tests.simulation.oracle import Oracle
from tests.simulation.relay_process import RelayProcess, Surroundings
from tests.simulation.result import Result
from tests.simulation.scenario import Scenario
from tests.simulation.source import Source

MOMENTS = ("commit", "write", "read", "send", "arrive", "answer", "request", "ack")
"""Steps at which a process may be killed; also at any time in between."""

FEW_STEPS = 60
LOOK_S = 3.0
FRESH_EVERY = 20
AGAIN_EVENTS = 50
STOP_BOUND_S = 120.0
MANY_EVENTS = 10_000
TIDIED_S = 26.0
DRAIN_BOUND_S = 6 * 3600.0
"""Virtual time to drain everything once all has recovered: a daily quota holds
for an hour, and a halted app is probed again and again."""

OBSERVED_EVERY = 15


@dataclass(frozen=True)
class Kill:
    """A moment to kill a process; if it never comes, the time limit decides.

    Attributes:
        kind: Kind of step.
        times: Which such step since the process started.
    """

    kind: str
    times: int


Ending = Callable[[RelayProcess], Awaitable[None]]


class World:
    """Everything of one run.

    Attributes:
        disk: The only disk.
        oracle: Judges the run.
    """

    def __init__(self, scenario: Scenario, mutant: Mutant, listener: Listener | None) -> None:
        loop = asyncio.get_running_loop()
        self._scenario = scenario
        self._loop = loop
        self._rng: Random = scenario.rng("lives")
        self._journal = journal = Journal(loop.time, listener)
        self._processes = 0
        self._commits = 0
        self.disk = Disk(scenario, journal, loop)
        self.disk.on_commit = self._observe_now_and_then
        clock = WallClock(loop)
        self._clock = clock
        self._apps = {
            name: App(Source(name, scenario, journal), Project(name, scenario, journal, loop))
            for name in scenario.apps
        }
        self.oracle = Oracle(scenario, self._apps, self.disk.raw)
        self._operators = {
            name: Operators(name, app, scenario, journal, clock) for name, app in self._apps.items()
        }
        self._surroundings = Surroundings(
            scenario, self.disk, clock, self._apps, self._operators, self.oracle, mutant
        )

    def result(self) -> Result:
        """Return the result."""
        return Result(
            seed=self._scenario.seed,
            wrong=tuple(self.oracle.wrong),
            fingerprint=self._journal.fingerprint,
            steps=self._journal.steps,
            processes=self._processes,
            events=sum(len(app.source.fates) for app in self._apps.values()),
            lasted_s=self._loop.time(),
            tail=tuple(self._journal.tail),
        )

    async def run(self) -> None:
        """Let everything go wrong for a while, recover, drain and judge."""
        while anyio.current_time() < self._scenario.span_s and not self.oracle.wrong:
            await self._live_until_something()
            await anyio.sleep(self._rng.choice((0.0, 1.0, 5.0, 30.0)))
        self._recover()
        if not self.oracle.wrong:
            await self._live(self._come_through)
        if not self.oracle.wrong:
            self._send_all_again()
            await self._live(self._come_through)
            self.oracle.judge()

    def _recover(self) -> None:
        """Let nothing go wrong any more; new events get in, however many wait."""
        for app in self._apps.values():
            app.project.recover()
        self._clock.set_ahead_ms(0)
        scenario = replace(self._scenario, max_events=MANY_EVENTS)
        self._surroundings = replace(self._surroundings, scenario=scenario)

    def _observe_now_and_then(self) -> None:
        self._commits += 1
        if self._commits % OBSERVED_EVERY == 0:
            self.oracle.observe()

    # Lives.

    async def _live_until_something(self) -> None:
        """Run one process until it ends alone, is stopped or killed."""
        rng, left_s = self._rng, self._scenario.span_s - anyio.current_time()
        lasts_s = min(rng.expovariate(4 / self._scenario.span_s), left_s) + 0.01
        kill = None
        if rng.random() < self._scenario.kill_rate:
            kill = Kill(rng.choice(MOMENTS), rng.randint(1, FEW_STEPS))

        async def wait(_: RelayProcess) -> None:
            await anyio.sleep(lasts_s)

        await self._live(wait, kill)

    async def _live(self, ending: Ending, kill: Kill | None = None) -> None:
        """Run one process until `ending` returns, then stop or kill it."""
        process = RelayProcess(self._surroundings)
        self._processes += 1
        self._journal.note("life", self._processes)
        with anyio.CancelScope() as scope:

            def end_at_once() -> None:
                self._journal.note("kill")
                self.disk.cut()
                scope.cancel()

            if kill:
                self._journal.at(kill.kind, kill.times, end_at_once)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(process.run)
                    await ending(process)
                    if kill:
                        end_at_once()
                    self._journal.note("stop")
                    process.stop()
                    scope.deadline = anyio.current_time() + STOP_BOUND_S
            except* StoreError:
                self._journal.note("died")
        if scope.cancelled_caught and not kill:
            self.oracle.blame(f"process {self._processes} did not end within {STOP_BOUND_S:.0f} s")
        self._journal.forget()
        self.disk.cut()

    async def _come_through(self, process: RelayProcess) -> None:
        """Wait until everything is drained, with all that needs."""
        await process.ready.wait()
        assert process.outbox is not None
        for name, operators in self._operators.items():
            await operators.set_paused(process.outbox, process.deliveries[name], paused=False)
            await operators.finish(process.outbox)
        await self._drain()
        self._add_fresh()  # later events drain too
        await self._drain()
        await self._tidy()
        self._look_into(process.outbox, process.deliveries)

    async def _drain(self) -> None:
        """Wait until nothing waits; now and then a new event arrives, as in production."""
        ends_s = anyio.current_time() + DRAIN_BOUND_S
        for look in count(1):
            await anyio.sleep(LOOK_S)
            rows = self.oracle.observe()
            pending = sum(found.counts.pending for found in rows.values())
            if not pending and all(app.source.is_idle for app in self._apps.values()):
                return
            if anyio.current_time() > ends_s:
                self.oracle.blame(f"{pending} events wait for ever")
                return
            if look % FRESH_EVERY == 0:
                self._add_fresh()

    async def _tidy(self) -> None:
        """Wait until maintenance is done, for as long as it may take."""
        ends_s = anyio.current_time() + TIDIED_S
        while self.oracle.left() and anyio.current_time() < ends_s:
            await anyio.sleep(LOOK_S)

    def _add_fresh(self) -> None:
        for app in self._apps.values():
            app.source.add_fresh(anyio.current_time())

    def _look_into(self, outbox: Outbox, deliveries: Mapping[str, SenderPool]) -> None:
        """Report what memory still holds when nothing is left to do."""
        all_of_them = deliveries.values()
        held = {
            "pending in memory": outbox.counters.pending,
            "bytes wait for the disk": outbox.writer.waiting_bytes,
            "events wait for the disk": outbox.writer.waiting_events,
            "keys wait for a flush": outbox.retention.unflushed,
            "events in flight": sum(each.dispatcher.in_flight for each in all_of_them),
            "apps that do not run": sum(each.breaker.state != "running" for each in all_of_them),
            "apps with others": sum(each.dispatcher.has_others for each in all_of_them),
        }
        for name, number in held.items():
            if number:
                self.oracle.blame(f"{number} {name}")

    def _send_all_again(self) -> None:
        """Have OneSignal repeat everything that was ever answered 200."""
        now_s = anyio.current_time()
        for app in self._apps.values():
            events = [app.source.fates[name].event for name in sorted(app.source.acked)]
            for first in range(0, len(events), AGAIN_EVENTS):
                app.source.add(now_s, *events[first : first + AGAIN_EVENTS])
