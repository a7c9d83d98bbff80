"""A sender carries one claim at a time to Amplitude, until nothing of it is left in hand.

A claim may come apart on the way: Amplitude names bad events, throttles some, finds an upload
too large. The parts (`Load`) then go one after the other, in order, so that a lane's order
holds. Every settled part is on disk before the next one goes.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol, assert_never

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.amplitude.verdicts import (
    Dead,
    Delivered,
    Halt,
    Hold,
    Later,
    Refused,
    Settled,
    Split,
    UploadReply,
    Verdict,
    judge_upload,
)
from relay.clock import Clock
from relay.delivery.backoff import BackoffPolicy
from relay.delivery.batching import LearnedLimits, halve, regroup
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.gate import Gate, Pass
from relay.delivery.refusals import Refusal, Refusals
from relay.delivery.stop import Stop
from relay.errors import StoreFull
from relay.outbox.claims import Claim, Claims, Death, Settlement, Waiting
from relay.pulse import Pulse

log = structlog.get_logger(__name__)

IDLE_SILENCE_S = 15.0
"""A sender that waits looks up at least so often."""

STORE_RETRY_S = 1.0
"""Pause before a settlement is written again that the disk had no room for."""


class Uploader(Protocol):
    """What a sender needs of Amplitude's API."""

    async def upload(self, events: bytes) -> UploadReply:
        """Send one request and return how it ended."""


class DeliveryMeter(Protocol):
    """Who counts uploads."""

    def uploaded(self, outcome: str, duration_s: float) -> None:
        """Note one upload, its outcome in a word, and how long it took."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How delivery behaves.

    Attributes:
        backoff: When a failed upload goes again.
        hold_s: How long a throttled device or user rests.
        max_age_ms: Since its first upload, after which an event is not sent again.
        timeout_s: Of one upload, whole.
    """

    backoff: BackoffPolicy
    hold_s: float
    max_age_ms: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """One app's delivery, shared by its senders."""

    app: str
    claims: Claims
    dispatcher: Dispatcher
    uploader: Uploader
    gate: Gate
    limits: LearnedLimits
    refusals: Refusals
    policy: DeliveryPolicy
    meter: DeliveryMeter
    clock: Clock
    rng: Random
    stop: Stop


@dataclass(frozen=True, slots=True)
class Load:
    """A part of a claim that goes in one upload.

    Attributes:
        events: In order of acceptance.
        attempts: Uploads of this claim these events were part of.
        first_tried_at: Epoch milliseconds of the first of these uploads.
        is_suspect: A lone event, refused, that waits for proof that others are not.
    """

    events: Sequence[Waiting]
    attempts: int = 0
    first_tried_at: int | None = None
    is_suspect: bool = False

    def counted(self, now_ms: int) -> "Load":
        """Return this load with one upload more."""
        return replace(
            self, attempts=self.attempts + 1, first_tried_at=self.first_tried_at or now_ms
        )

    def tried(self, event: Waiting) -> Waiting:
        """Return `event` with the uploads of this claim added to its tries."""
        return event._replace(
            first_tried_at=event.first_tried_at or self.first_tried_at,
            attempts=event.attempts + self.attempts,
        )


class Sender:
    """One of an app's senders."""

    def __init__(self, line: Line, pulse: Pulse) -> None:
        self._line = line
        self._pulse = pulse

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Carry claims until a stop is requested."""
        line = self._line
        task_status.started()
        while not line.stop.is_requested:
            self._pulse.beat(IDLE_SILENCE_S)
            events: list[Waiting] = []
            with line.stop.interruptible(), anyio.move_on_after(IDLE_SILENCE_S):
                events = await line.dispatcher.take()
            if events:
                await self._carry(events)

    async def _carry(self, events: list[Waiting]) -> None:
        """Record the claim, which nothing may interrupt, and go."""
        try:
            claim = await self._line.dispatcher.claim(events)
        except StoreFull:
            await anyio.sleep(STORE_RETRY_S)
        else:
            await _Trip(self._line, claim, self._pulse).carry()


class _Trip:
    """One claim on its way."""

    def __init__(self, line: Line, claim: Claim, pulse: Pulse) -> None:
        self._line = line
        self._claim = claim
        self._pulse = pulse
        self._loads = deque([Load(claim.events)])

    async def carry(self) -> None:
        """Send what the claim holds until it is settled or a stop is requested.

        At a stop the claim stays recorded; the next start goes on with it.
        """
        while self._loads and not self._line.stop.is_requested:
            load = await self._without_expired(self._loads.popleft())
            if load.events:
                self._loads.extendleft(reversed(await self._send(load)))

    async def _send(self, load: Load) -> Sequence[Load]:
        """Upload one load, record what became of it, and return what must go again."""
        line = self._line
        given = await self._enter()
        if given is None:
            return ()
        try:
            bodies = await line.claims.read_bodies([event.seq for event in load.events])
            if bodies is None:
                return await self._without_vanished(load)
            load = load.counted(line.clock.now_ms())
            if load.attempts > 1:
                await self._write(lambda: line.claims.count_attempt(self._claim))
            began_s = line.clock.monotonic_s()
            self._pulse.beat(line.policy.timeout_s)
            reply = await line.uploader.upload(bodies)
            duration_s = line.clock.monotonic_s() - began_s
            verdict = judge_upload(reply, load.events)
            self._report(load, reply, verdict, duration_s)
            return await self._obey(verdict, load, given)
        finally:
            line.gate.leave(given)

    async def _enter(self) -> Pass | None:
        """Wait for the gate; None if a stop comes first."""
        given: Pass | None = None
        while given is None and not self._line.stop.is_requested:
            self._pulse.beat(IDLE_SILENCE_S)
            with self._line.stop.interruptible(), anyio.move_on_after(IDLE_SILENCE_S):
                given = await self._line.gate.enter()
        return given

    async def _without_vanished(self, load: Load) -> Sequence[Load]:
        """Let go of events that a person has removed meanwhile."""
        present = await self._line.claims.read_present([event.seq for event in load.events])
        gone = [event for event in load.events if event.seq not in present]
        await self._settle(Settlement(vanished=gone))
        left = [event for event in load.events if event.seq in present]
        return [replace(load, events=left)] if left else ()

    async def _obey(self, verdict: Verdict, load: Load, given: Pass) -> Sequence[Load]:
        """Do what a verdict says and return the loads that must go again."""
        gate = self._line.gate
        match verdict:
            case Settled():
                self._line.refusals.taken(self._line.clock.monotonic_s())
                gate.succeed(given)
                return await self._obey_settled(verdict, load)
            case Split():
                gate.succeed(given)
                return await self._obey_split(verdict, load)
            case Refused():
                return await self._obey_refused(verdict, load, given)
            case Later():
                gate.fail(given, verdict.reason, verdict.retry_after_s)
                await self._pause(load)
                return (load,)
            case Halt():
                self._halt(given, verdict.reason, "wrong_key")
                return (load,)
            case _:
                assert_never(verdict)

    async def _obey_settled(self, settled: Settled, load: Load) -> Sequence[Load]:
        delivered: list[Waiting] = []
        dead: list[Death] = []
        held: list[tuple[Waiting, Hold]] = []
        for event, outcome in zip(load.events, settled.outcomes, strict=True):
            if isinstance(outcome, Delivered):
                delivered.append(event)
            elif isinstance(outcome, Dead):
                dead.append(Death(load.tried(event), outcome.reason, outcome.detail))
            elif isinstance(outcome, Hold):
                held.append((load.tried(event), outcome))
        if delivered:
            self._line.limits.grow()
        for event, hold in held:
            names = frozenset(f"d:{name}" for name in hold.devices) | frozenset(
                f"u:{name}" for name in hold.users
            )
            wait_s = max(self._line.policy.hold_s, hold.wait_s or 0.0)
            self._line.dispatcher.rest(event, names, wait_s)
        await self._settle(
            Settlement(delivered=delivered, dead=dead, released=[event for event, _ in held])
        )
        return [replace(load, events=part) for part in regroup(load.events, settled)]

    async def _obey_split(self, split: Split, load: Load) -> Sequence[Load]:
        if split.is_size:
            self._line.limits.shrink(
                len(load.events), sum(event.size_bytes for event in load.events)
            )
        if len(load.events) > 1:
            return [replace(load, events=half) for half in halve(load.events)]
        await self._bury(load, split.reason, split.detail)
        return ()

    async def _obey_refused(self, refused: Refused, load: Load, given: Pass) -> Sequence[Load]:
        line = self._line
        line.refusals.refused(line.clock.monotonic_s())
        if len(load.events) > 1:
            return [replace(load, events=half) for half in halve(load.events)]
        judgement = line.refusals.judge_alone(dies_alone=refused.dies_alone)
        if judgement is Refusal.DIES:
            await self._bury(load, refused.reason, refused.detail)
            return ()
        suspect = replace(load, is_suspect=True)
        if judgement is Refusal.WAITS and any(not other.is_suspect for other in self._loads):
            self._loads.append(suspect)
            return ()
        words = f"Amplitude refuses this app's uploads: {refused.detail}"
        self._halt(given, words, refused.reason)
        return (suspect,)

    def _halt(self, given: Pass, words: str, reason: str) -> None:
        """Stop this app's uploads; the log tells it once, and never in Amplitude's words."""
        if self._line.gate.halt(given, words):
            log.error("app.halted", app=self._line.app, reason=reason)

    async def _without_expired(self, load: Load) -> Load:
        """Bury events first tried too long ago for Amplitude to recognise a repetition."""
        oldest_at = self._line.clock.now_ms() - self._line.policy.max_age_ms
        expired = [
            load.tried(event)
            for event in load.events
            if (event.first_tried_at or load.first_tried_at or oldest_at) < oldest_at
        ]
        if not expired:
            return load
        detail = f"first tried more than {self._line.policy.max_age_ms // 1000} s ago"
        await self._settle(Settlement(dead=[Death(event, "expired", detail) for event in expired]))
        gone = {event.seq for event in expired}
        return replace(load, events=[event for event in load.events if event.seq not in gone])

    async def _bury(self, load: Load, reason: str, detail: str) -> None:
        deaths = [Death(load.tried(event), reason, detail) for event in load.events]
        await self._settle(Settlement(dead=deaths))

    async def _settle(self, settlement: Settlement) -> None:
        """Write an outcome down, then let go of its events."""
        events = settlement.events
        if not events:
            return
        now_ms = self._line.clock.now_ms()
        await self._write(lambda: self._line.claims.settle(self._claim, settlement, now_ms))
        self._line.dispatcher.finish(self._claim, events)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write what is known, however long the disk is full.

        Needs no shield: the change stands in the writer's line before the first `await`,
        and the writer ends last.
        """
        while True:
            self._pulse.beat(STORE_RETRY_S)
            try:
                return await write()
            except StoreFull:
                await anyio.sleep(STORE_RETRY_S)

    async def _pause(self, load: Load) -> None:
        """Wait for this load's own backoff; the gate's comes on top for the whole app."""
        line = self._line
        wait_s = line.policy.backoff.delay_s(load.attempts, rng=line.rng)
        self._pulse.beat(wait_s)
        with line.stop.interruptible():
            await anyio.sleep(wait_s)

    def _report(self, load: Load, reply: UploadReply, verdict: Verdict, duration_s: float) -> None:
        """Write the one line of this upload."""
        outcome = _outcome(verdict)
        self._line.meter.uploaded(outcome, duration_s)
        log.info(
            "batch.uploaded",
            app=self._line.app,
            outcome=outcome,
            events=len(load.events),
            status=reply.status,
            failure=reply.failure or None,
            attempt=load.attempts,
            duration_ms=round(duration_s * 1000),
        )


def _outcome(verdict: Verdict) -> str:
    """Return the word for a verdict in logs and metrics."""
    match verdict:
        case Settled(outcomes=outcomes):
            whole = all(isinstance(outcome, Delivered) for outcome in outcomes)
            return "delivered" if whole else "partial"
        case Split():
            return "split"
        case Refused():
            return "refused"
        case Later():
            return "retry"
        case Halt():
            return "halted"
        case _:
            assert_never(verdict)
