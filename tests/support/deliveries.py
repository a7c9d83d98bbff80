"""Delivers one app's real outbox to a scripted Amplitude."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import anyio
import orjson

from relay.amplitude.verdicts import UploadReply
from relay.clock import Clock
from relay.delivery.batching import BatchLimits
from relay.delivery.circuit_breaker import BackoffPolicy
from relay.delivery.policy import DeliveryPolicy
from relay.delivery.pool import DeliverySetup, SenderPool
from relay.outbox.store import Outbox
from tests.support.clocks import AdjustableClock
from tests.support.outboxes import APP, running_outbox

ACCEPTED = UploadReply(200, b'{"code":200}')
DAY_MS = 86_400_000

Upload = list[dict[str, str]]
Script = Callable[[Upload], UploadReply]


def answer(status: int, **body: object) -> UploadReply:
    """Return a reply with a JSON body whose code is the status."""
    return UploadReply(status, orjson.dumps({"code": status, **body}))


def accept_all(_: Upload) -> UploadReply:
    """Accept every upload."""
    return ACCEPTED


def ids_of(upload: Upload) -> list[str]:
    """Return the insert ids of an upload, in order."""
    return [event["insert_id"] for event in upload]


class ScriptedAmplitude:
    """An uploader that replies as scripted and records what arrived.

    Attributes:
        script: Makes the reply to an upload's events.
        uploads: Uploads in order of arrival.
        accepted: Insert ids of all events answered with 200, in order.
        in_flight: Uploads being answered now.
    """

    def __init__(self, script: Script = accept_all) -> None:
        self.script = script
        self.uploads: list[Upload] = []
        self.accepted: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.may_answer = anyio.Event()
        self.may_answer.set()
        self._changed = anyio.Event()

    async def upload(self, events: bytes) -> UploadReply:
        """Record an upload and answer it once answers are allowed."""
        upload: Upload = orjson.loads(b"[%b]" % events)
        self.uploads.append(upload)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._change()
        try:
            await self.may_answer.wait()
            reply = self.script(upload)
        finally:
            self.in_flight -= 1
        if reply.status == ACCEPTED.status:
            self.accepted += ids_of(upload)
        self._change()
        return reply

    async def until(self, holds: Callable[[], bool], within_s: float = 5.0) -> None:
        """Return once `holds` is true; checked on every upload."""
        with anyio.fail_after(within_s):
            while not holds():
                await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@dataclass
class Meter:
    """Records how uploads ended."""

    outcomes: list[str] = field(default_factory=list)

    def uploaded(self, outcome: str, duration_s: float) -> None:
        """Record one upload."""
        assert duration_s >= 0
        self.outcomes.append(outcome)


SETUP = DeliverySetup(
    app=APP,
    no=1,
    senders=1,
    limits=BatchLimits(max_events=10, max_bytes=900_000, overhead_bytes=60),
    linger_s=0.0,
    halt_probe_s=300.0,
    policy=DeliveryPolicy(
        backoff=BackoffPolicy(base_s=0.01, cap_s=0.02),
        hold_s=30.0,
        max_age_ms=6 * DAY_MS,
        timeout_s=5.0,
    ),
    is_paused=False,
)
"""Short waits; each test changes what it is about."""


@dataclass
class Bench:
    """A running delivery and its surroundings."""

    outbox: Outbox
    delivery: SenderPool
    amplitude: ScriptedAmplitude
    meter: Meter
    clock: AdjustableClock

    async def settled(self, events: int, within_s: float = 5.0) -> None:
        """Return once this many events of the app are delivered or dead on disk."""
        with anyio.fail_after(within_s):
            while True:
                found = (await self.outbox.counters.states())[APP].counts
                if found.delivered + found.dead >= events:
                    return
                await self.outbox.database.flush()


@asynccontextmanager
async def running_delivery(
    folder: Path,
    amplitude: ScriptedAmplitude,
    setup: DeliverySetup = SETUP,
    clock: AdjustableClock | None = None,
) -> AsyncIterator[Bench]:
    """Deliver the outbox of `folder` to `amplitude` until the body ends."""
    clock = clock or AdjustableClock()
    async with running_outbox(folder, clock=clock) as outbox:
        meter = Meter()
        delivery = make_delivery(outbox, amplitude, meter, clock, setup)
        async with anyio.create_task_group() as group:
            await group.start(delivery.run)
            yield Bench(outbox, delivery, amplitude, meter, clock)
            group.cancel_scope.cancel()


def make_delivery(
    outbox: Outbox,
    amplitude: ScriptedAmplitude,
    meter: Meter,
    clock: Clock,
    setup: DeliverySetup = SETUP,
) -> SenderPool:
    """Return a delivery that is notified of appends to its outbox."""
    own = replace(setup, no=outbox.counters.number(setup.app))
    delivery = SenderPool(own, outbox.claims, amplitude, meter, clock, Random(7))
    outbox.writer.listen(own.no, delivery.dispatcher.arrived)
    return delivery
