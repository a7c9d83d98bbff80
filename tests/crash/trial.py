"""One long trial: traffic that never pauses, and a daemon that is killed again and again."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from time import monotonic

import anyio

from relay.events.catalog import SEED_KINDS
from relay.sandbox.amplitude import AmplitudeStandIn
from relay.sandbox.conditions import Conditions, Poison
from relay.sandbox.onesignal import EventStream, StreamOptions, Target
from relay.sandbox.templates import Renderer
from relay.sandbox.traffic import RawEvent, Scenery, Traffic
from tests.crash.accounting import Books, breaks, regressions
from tests.crash.moments import MOMENTS, Scene
from tests.support.command_line import API_KEY, APP_ID, HOOK_TOKEN, CommandLine
from tests.support.daemons import HOOK, Doors, Life, Standing, living

STUBBORN = StreamOptions(
    concurrency=12,
    rate_per_s=150,
    timeout_s=10,
    max_attempts=10_000,
    retry_base_s=0.02,
    retry_cap_s=0.2,
    duplicate_rate=0.1,
    late_rate=0.05,
    broken_rate=0.01,
    foreign_rate=0.01,
    unknown_rate=0.01,
    shuffle=5,
)
"""A stream that repeats, mixes and spoils events, and that never gives one up."""

MISFORTUNES = ("503", "stored_500", "stored_reset", "429", "200_cut", "stored_504", "200_html")

FAILING = "failure_reason"
"""Events with this property are never taken by Amplitude, so that some die."""


def kills(default: int) -> int:
    """Return how often to kill: `CRASH_KILLS` in the environment makes a run longer."""
    return int(os.environ.get("CRASH_KILLS", default))  # noqa: TID251  # a test's own option


def seed() -> int:
    """Return what chance begins with: `CRASH_SEED` in the environment, or a fixed number."""
    return int(os.environ.get("CRASH_SEED", "20261124"))  # noqa: TID251  # a test's own option


def scenery() -> Scenery:
    """Return what the traffic is about: nothing that relay filters."""
    return Scenery(app_id=APP_ID, kinds=SEED_KINDS, users=40)


class Campaign:
    """Events without end, until it is stopped; the same seed gives the same events."""

    def __init__(self, number: int) -> None:
        self._traffic = Traffic(scenery(), Random(number))
        self._is_over = False
        self._renderer = Renderer(StreamOptions())
        self.bodies: dict[str, bytes] = {}

    def stop(self) -> None:
        """Send no further event."""
        self._is_over = True

    def events(self) -> Iterator[RawEvent]:
        """Yield events until stopped, and remember how each is written."""
        for event in self._traffic.events():
            if self._is_over:
                return
            self.bodies[str(event["event"]["id"])] = self._renderer.render(event)
            yield event


@dataclass
class Trial:
    """The trial and what it has seen.

    Attributes:
        starts_s: How long each start took, until `/readyz` said 200.
        faults: Sentences about counts that were wrong on the way.
    """

    relay: CommandLine
    amplitude: AmplitudeStandIn
    doors: Doors
    rng: Random
    campaign: Campaign
    stream: EventStream
    starts_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    last: Standing | None = None

    async def live_through(self, times: int) -> None:
        """Kill the daemon so often, each time at another kind of moment."""
        for number in range(times):
            self._spread_misfortune()
            async with living(self.relay) as life:
                moment = MOMENTS[number % len(MOMENTS)]
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._inspect, life, tasks.cancel_scope)
                    await moment(Scene(life, self.amplitude, self.rng, self._acknowledge))
                    tasks.cancel_scope.cancel()
                life.kill()
                await life.ended()
            self.amplitude.faults.clear()

    async def settle(self) -> Standing:
        """Let the daemon live without faults until everything is through; return its counts."""
        self.campaign.stop()
        async with living(self.relay) as life:
            await self._ready(life, monotonic())
            with anyio.fail_after(60):
                while self.stream.oracle.unacknowledged:
                    await self.doors.standing()
            return await self.doors.drained()
