"""One long crash run: traffic that never pauses, and a daemon that is killed again and again."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from random import Random
from time import monotonic
from typing import TypeAlias

import anyio

from relay.events.catalog import SEED_KINDS
from relay.sandbox.amplitude.conditions import Conditions, Poison
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.listener import running
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.event_stream import EventStream, StreamOptions
from relay.sandbox.onesignal.templates import Renderer, Rendering
from relay.sandbox.onesignal.traffic import RawEvent, Traffic, TrafficOptions
from tests.crash.accounting import Accounts, contradictions, regressions
from tests.crash.moments import UNSEEN, Moment, Scene
from tests.support.command_line import API_KEY, APP_ID, WEBHOOK_TOKEN, CommandLine
from tests.support.daemons import (
    EVENTS_PATH,
    AppCounts,
    DaemonProcess,
    Doors,
    fast_relay,
    open_doors,
    running_daemon,
)

STUBBORN = StreamOptions(
    concurrency=12,
    rate_per_s=150,
    timeout_s=10,
    max_attempts=100_000,
    retry_base_s=0.02,
    retry_cap_s=0.2,
    duplicate_rate=0.1,
    late_rate=0.05,
    broken_rate=0.01,
    foreign_rate=0.01,
    unknown_rate=0.01,
    shuffle=5,
)
"""A stream that repeats, shuffles and corrupts events and never gives one up."""

Tracer: TypeAlias = Sequence[str]
"""A command that runs the daemon, with its options."""

FAULTS = ("503", "stored_500", "stored_reset", "429", "200_cut", "stored_504", "200_html")

WITH_POISON = Conditions(poisons=(Poison(property_name="failure_reason", indices="all"),))
"""Amplitude never accepts some events, so there are dead letters."""

FAULT_SHARE = 0.5
SETTLE_S = 120.0
AGAIN_EVENTS = 100


class EndlessTraffic:
    """Events until stopped; the same seed gives the same events.

    Attributes:
        bodies: Bodies as rendered, by event id.
    """

    def __init__(self, seed: int) -> None:
        scenery = TrafficOptions(app_id=APP_ID, kinds=SEED_KINDS, users=40)
        self._events = Traffic(scenery, Random(seed)).events()
        self._renderer = Renderer(Rendering())
        self._is_over = False
        self.bodies: dict[str, bytes] = {}

    def stop(self) -> None:
        """Yield no further event."""
        self._is_over = True

    def events(self) -> Iterator[RawEvent]:
        """Yield events until stopped, recording each body."""
        for event in self._events:
            if self._is_over:
                return
            self._remember(event)
            yield event

    def one(self) -> tuple[str, bytes]:
        """Return the id and the body of one event."""
        return self._remember(next(self._events))

    def _remember(self, event: RawEvent) -> tuple[str, bytes]:
        name, body = str(event["event"]["id"]), self._renderer.render(event)
        self.bodies[name] = body
        return name, body


@dataclass(frozen=True)
class Outcome:
    """The state after everything has drained.

    Attributes:
        accounts: What happened to every event.
        counts: The daemon's counts.
        again: Sums of the responses when every acknowledged event was sent once more.
    """

    accounts: Accounts
    counts: AppCounts
    again: Counter[str]


@dataclass
class CrashRun:
    """The daemon's surroundings, and what was observed of it.

    Attributes:
        relay: The daemon's configuration.
        stream: OneSignal.
        amplitude: Amplitude.
        doors: The daemon's doors.
        traffic: What OneSignal sends.
        rng: Seeded chance.
        wrong: Sentences about counts that were wrong on the way.
        starts_s: How long each start took, until `/readyz` said 200.
        own: Ids of events sent outside the stream and answered 200.
    """

    relay: CommandLine
    stream: EventStream
    amplitude: AmplitudeStandIn
    doors: Doors
    traffic: EndlessTraffic
    rng: Random
    wrong: list[str] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    _seen: AppCounts | None = None
    _sent: anyio.Event = field(default_factory=anyio.Event)

    @property
    def acknowledged(self) -> set[str]:
        """Ids of all events answered with 200."""
        return self.own | self.stream.oracle.acknowledged.keys()

    async def run(
        self,
        ends: Iterable[Callable[[DaemonProcess], Awaitable[None]]],
        *,
        tracers: Iterable[Tracer] = (),
    ) -> Outcome:
        """End the daemon in each given way under traffic; return the final state.

        Args:
            ends: What is done with each process.
            tracers: What each process runs under; later ones run untraced.
        """
        under = chain(tracers, repeat(()))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send, name="traffic")
            for end in ends:
                async with running_daemon(self.relay, under=next(under)) as daemon:
                    await end(daemon)
            self.amplitude.faults.clear()
            async with running_daemon(self.relay) as daemon:
                await self.inspect(daemon)
                outcome = await self._finish()
        return outcome

    async def _send(self) -> None:
        await self.stream.send(self.traffic.events())
        self._sent.set()

    async def killed(self, daemon: DaemonProcess, *, moment: Moment) -> None:
        """Inspect the daemon once it is ready, and kill it at its moment."""
        self.amplitude.faults.clear()
        if self.rng.random() < FAULT_SHARE:
            self.amplitude.faults.add(self.rng.choice(FAULTS), count=self.rng.randint(1, 3))
        if moment not in UNSEEN:
            await self.inspect(daemon)
        await moment(Scene(daemon, self.amplitude, self.rng, self._acknowledge))
        daemon.kill()
        await daemon.ended()

    async def inspect(self, daemon: DaemonProcess) -> None:
        """Check the daemon's counts against earlier ones and against the answers given."""
        known = len(self.acknowledged)
        await daemon.until("relay.ready")
        status, _ = await self.doors.readiness()
        self.starts_s.append(monotonic() - daemon.began_s)
        counts = await self.doors.counts()
        self.wrong += contradictions(counts)
        if status != 200:
            self.wrong.append(f"/readyz says {status} after relay.ready")
        if counts.accepted < known:
            self.wrong.append(f"{known} were answered 200, {counts.accepted} are accepted")
        if self._seen is not None:
            self.wrong += regressions(self._seen, counts)
        self._seen = counts

    async def _acknowledge(self) -> None:
        """Send one event and return at the first byte of its 200."""
        name, body = self.traffic.one()
        async with self.doors.sending(body) as answer:
            assert answer.status == 200
            self.own.add(name)

    async def _finish(self) -> Outcome:
        """Drain everything and collect the accounts."""
        self.traffic.stop()
        with anyio.fail_after(SETTLE_S):
            await self._sent.wait()
        counts = await self.doors.drained()
        dead = await self.doors.dead_letters()
        return Outcome(self._accounts(dead), counts, await self._send_again())

    def _accounts(self, dead: Sequence[str]) -> Accounts:
        return Accounts(
            attempted=self.stream.oracle.attempted | self.own,
            acknowledged=self.acknowledged,
            held=self.amplitude.ledger.account(API_KEY).insert_ids,
            dead=dead,
        )

    async def _send_again(self) -> Counter[str]:
        total: Counter[str] = Counter()
        names = sorted(self.acknowledged)
        for first in range(0, len(names), AGAIN_EVENTS):
            bodies = [self.traffic.bodies[name] for name in names[first : first + AGAIN_EVENTS]]
            _, counts = await self.doors.post(b"[%b]" % b",".join(bodies))
            total.update(counts)
        return total


@asynccontextmanager
async def prepared(folder: Path, seed: int) -> AsyncIterator[CrashRun]:
    """Provide a crash run whose stand-ins are up while the block runs."""
    amplitude = AmplitudeStandIn([API_KEY])
    amplitude.conditions = WITH_POISON
    async with running(amplitude.app()) as url:
        relay = fast_relay(folder, url)
        target = Target(f"{relay.public}{EVENTS_PATH}", WEBHOOK_TOKEN)
        stream = EventStream(target, STUBBORN, rng=Random(seed))
        async with open_doors(relay) as doors, stream:
            yield CrashRun(relay, stream, amplitude, doors, EndlessTraffic(seed), Random(seed))
