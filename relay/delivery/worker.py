"""One claim on its way to Amplitude, until nothing of it is left in hand.

A claim may come apart on the way: Amplitude names bad events, throttles some, finds an upload
too large. The parts (`Batch`) then go one after the other, in order, so that a lane's order
holds. Every settled part is on disk before the next one goes.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import assert_never

import anyio
import structlog

from relay.amplitude.judge import judge_upload
from relay.amplitude.verdicts import (
    Dead,
    Delivered,
    Forbidden,
    Halt,
    Hold,
    Retry,
    Settled,
    Split,
    UploadReply,
    Verdict,
    name_outcome,
)
from relay.delivery.batching import Batch, halve, regroup
from relay.delivery.circuit_breaker import Permit
from relay.delivery.poison import Refusal, find_witness
from relay.delivery.policy import SenderContext
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Claim, DeadLettered, Settlement, Waiting

log = structlog.get_logger(__name__)

IDLE_SILENCE_S = 15.0
"""Who waits looks up at least so often."""

STORE_RETRY_S = 1.0
"""Pause before something is written again that the disk had no room for."""


class BatchDelivery:
    """One claim on its way."""

    def __init__(self, context: SenderContext, claim: Claim, heartbeat: Heartbeat) -> None:
        self._context = context
        self._claim = claim
        self._heartbeat = heartbeat
        self._loads = deque([Batch(claim.events)])
        self._held: dict[str, frozenset[str]] = {}
        self._largest_taken: Batch | None = None
        self._was_too_large = False
        self._heard = 0
        self._takes_before: int | None = None

    async def run(self) -> None:
        """Send what the claim holds until it is settled or a stop is requested.

        At a stop the claim stays recorded; the next start goes on with it.
        """
        while self._loads and not self._context.shutdown.is_requested:
            load = await self._without_resting(self._loads.popleft())
            if load.events:
                again = await self._send(load)
                self._loads.extendleft(reversed(again))
        if self._was_too_large and self._largest_taken:
            taken = self._largest_taken
            self._context.limits.learn(len(taken.events), taken.size_bytes)

    async def _send(self, load: Batch) -> Sequence[Batch]:
        """Upload one load, record what became of it, and return what must go again."""
        context = self._context
        given = await self._enter()
        if given is None:
            return ()
        try:
            load = await self._without_expired(load)
            if not load.events:
                return ()
            bodies = await context.claims.read_bodies([event.seq for event in load.events])
            if bodies is None:
                return await self._without_vanished(load)
            load = load.counted(context.claims.now_ms())
            if load.attempts > 1:
                await self._write(lambda: context.claims.count_attempt(self._claim))
            began_s = context.clock.monotonic_s()
            self._heartbeat.beat(context.policy.timeout_s)
            reply = await context.uploader.upload(bodies)
            verdict = judge_upload(reply, load.events)
            self._report(load, reply, verdict, context.clock.monotonic_s() - began_s)
            return await self._obey(verdict, load, given)
        finally:
            context.breaker.release(given)

    async def _enter(self) -> Permit | None:
        """Wait for the gate; None if a stop comes first."""
        given: Permit | None = None
        while given is None and not self._context.shutdown.is_requested:
            self._heartbeat.beat(IDLE_SILENCE_S)
            with self._context.shutdown.interruptible(), anyio.move_on_after(IDLE_SILENCE_S):
                given = await self._context.breaker.acquire()
        return given

    # What a verdict asks for.

    async def _obey(self, verdict: Verdict, load: Batch, given: Permit) -> Sequence[Batch]:
        """Do what a verdict says and return the loads that must go again."""
        breaker = self._context.breaker
        match verdict:
            case Settled():
                self._context.poison.taken()
                self._heard = 0
                breaker.succeed(given)
                return await self._obey_settled(verdict, load)
            case Split():
                breaker.succeed(given)
                return await self._obey_split(verdict, load)
            case Forbidden():
                return await self._obey_refused(verdict, load, given)
            case Retry():
                breaker.fail(given, verdict.reason, verdict.retry_after_s)
                await self._pause(load)
                return (load,)
            case Halt():
                self._halt(given, verdict.reason, "wrong_key")
                return (load,)
            case _:
                assert_never(verdict)

    async def _obey_settled(self, settled: Settled, load: Batch) -> Sequence[Batch]:
        delivered: list[Waiting] = []
        dead: list[DeadLettered] = []
        held: list[Waiting] = []
        for event, outcome in zip(load.events, settled.outcomes, strict=True):
            if isinstance(outcome, Delivered):
                delivered.append(event)
            elif isinstance(outcome, Dead):
                dead.append(DeadLettered(load.tried(event), outcome.reason, outcome.detail))
            elif isinstance(outcome, Hold):
                held.append(load.tried(event))
                self._rest(held[-1], outcome)
        if len(delivered) == len(load.events):
            self._note_taken(load)
        await self._settle(Settlement(delivered=delivered, dead=dead, released=held))
        return [replace(load, events=part) for part in regroup(load.events, settled)]

    def _rest(self, event: Waiting, hold: Hold) -> None:
        """Put a held event back; later ones of its lane in this claim must follow it."""
        names = frozenset(f"d:{name}" for name in hold.devices)
        names |= frozenset(f"u:{name}" for name in hold.users)
        wait_s = max(self._context.policy.hold_s, hold.wait_s or 0.0)
        self._context.dispatcher.defer(event, names, wait_s)
        self._held[event.ordering_key] = names

    def _note_taken(self, load: Batch) -> None:
        self._context.limits.grow()
        if not self._largest_taken or len(load.events) > len(self._largest_taken.events):
            self._largest_taken = load

    async def _obey_split(self, split: Split, load: Batch) -> Sequence[Batch]:
        if len(load.events) > 1:
            self._was_too_large = self._was_too_large or split.is_size
            return self._halves(load)
        await self._settle(Settlement(dead=load.deaths(split.reason, split.detail)))
        return ()

    async def _obey_refused(
        self, refused: Forbidden, load: Batch, given: Permit
    ) -> Sequence[Batch]:
        if len(load.events) > 1:
            return self._halves(load)
        event, refusals = load.events[0], self._context.poison
        if self._takes_before is None:
            self._takes_before = refusals.takes
        judgement = refusals.judge_alone(event.seq, dies_alone=refused.dies_alone)
        if judgement is Refusal.DIES:
            await self._settle(Settlement(dead=load.deaths(refused.reason, refused.detail)))
            return ()
        self._loads.append(replace(load, is_suspect=True))
        others = [other for other in self._loads if other.events and not other.is_suspect]
        if any(one.ordering_key != event.ordering_key for other in others for one in other.events):
            self._held[event.ordering_key] = frozenset({event.ordering_key})
        if judgement is Refusal.WAITS and others:
            return ()  # they are the proof
        if witness := find_witness(self._loads, self._heard):
            self._heard += 1
            self._loads = deque(other.without([witness.seq]) for other in self._loads)
            return (Batch([witness], load.attempts, load.first_tried_at),)
        await self._give_up(refused, given)
        return ()

    async def _give_up(self, refused: Forbidden, given: Permit) -> None:
        """Put all that is left back in line, behind others; halt the app if nothing was taken."""
        context = self._context
        wait_s = context.policy.hold_s
        if context.poison.takes == self._takes_before:
            words = f"Amplitude refuses this app's uploads: {refused.detail}"
            self._halt(given, words, refused.reason)
            tries = context.poison.shut()
            wait_s = tries * context.breaker.halt_probe_s if context.dispatcher.has_others else 0.0
        left = [load.tried(event) for load in self._loads for event in load.events]
        self._loads.clear()
        for event in left:
            context.dispatcher.defer(event, frozenset({event.ordering_key}), wait_s)
        await self._settle(Settlement(released=left))

    def _halves(self, load: Batch) -> list[Batch]:
        return [replace(load, events=half) for half in halve(load.events)]

    def _halt(self, given: Permit, words: str, reason: str) -> None:
        """Stop this app's uploads; the log tells it once, and never in Amplitude's words."""
        if self._context.breaker.halt(given, words):
            log.error("app.halted", app=self._context.app, reason=reason)

    async def _pause(self, load: Batch) -> None:
        """Wait for this load's own backoff; the gate's comes on top for the whole app."""
        wait_s = self._context.policy.backoff.delay_s(load.attempts, rng=self._context.rng)
        self._heartbeat.beat(wait_s)
        with self._context.shutdown.interruptible():
            await anyio.sleep(wait_s)

    # What does not go.

    async def _without_resting(self, load: Batch) -> Batch:
        """Put back events whose lane rests because of an earlier one."""
        if load.is_suspect or not self._held or not load.events:
            return load
        resting = [load.tried(event) for event in load.events if event.ordering_key in self._held]
        for event in resting:
            self._context.dispatcher.defer(event, self._held[event.ordering_key], 0.0)
        await self._settle(Settlement(released=resting))
        return load.without([event.seq for event in resting])

    async def _without_expired(self, load: Batch) -> Batch:
        """Bury events first tried too long ago for Amplitude to recognise a repetition."""
        policy = self._context.policy
        oldest_at = self._context.claims.now_ms() - policy.max_age_ms
        expired = [
            load.tried(event)
            for event in load.events
            if (event.first_tried_at or load.first_tried_at or oldest_at) < oldest_at
        ]
        detail = f"first tried more than {policy.max_age_ms // 1000} s ago"
        await self._settle(
            Settlement(dead=[DeadLettered(event, "expired", detail) for event in expired])
        )
        return load.without([event.seq for event in expired]) if expired else load

    async def _without_vanished(self, load: Batch) -> Sequence[Batch]:
        """Let go of events that a person has removed meanwhile."""
        present = await self._context.claims.read_present([event.seq for event in load.events])
        gone = [event for event in load.events if event.seq not in present]
        await self._settle(Settlement(vanished=gone))
        left = load.without([event.seq for event in gone])
        return [left] if left.events else ()

    # What is written.

    async def _settle(self, settlement: Settlement) -> None:
        """Write an outcome down, then let go of its events."""
        events = settlement.events
        if not events:
            return
        now_ms = self._context.clock.now_ms()
        await self._write(lambda: self._context.claims.settle(self._claim, settlement, now_ms))
        self._context.dispatcher.finish(self._claim, events)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write what is known, however long the disk is full.

        Needs no shield: the change stands in the writer's line before the first `await`,
        and the writer ends last.
        """
        while True:
            self._heartbeat.beat(STORE_RETRY_S)
            try:
                return await write()
            except StoreFull:
                await anyio.sleep(STORE_RETRY_S)

    def _report(self, load: Batch, reply: UploadReply, verdict: Verdict, duration_s: float) -> None:
        """Write the one line of this upload."""
        outcome = name_outcome(verdict)
        self._context.meter.uploaded(outcome, duration_s)
        write = log.info if isinstance(verdict, Settled | Split) else log.warning
        write(
            "batch.uploaded",
            app=self._context.app,
            outcome=outcome,
            events=len(load.events),
            status=reply.status,
            failure=reply.failure or None,
            attempt=load.attempts,
            duration_ms=round(duration_s * 1000),
        )
