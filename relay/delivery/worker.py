"""Delivers one claim to Amplitude until each of its events is settled or deferred.

A claim may come apart on the way: Amplitude rejects some of its events, throttles some, finds a
batch too large. Its batches then go one after the other, in order, so that the order within each
ordering key holds. What an answer settles is on disk before the next upload.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import assert_never

import anyio
import structlog

from relay.amplitude.judge import judge_upload
from relay.amplitude.verdicts import Settled, Split, UploadReply, Verdict, name_outcome
from relay.delivery.batching import Batch
from relay.delivery.circuit_breaker import Permit
from relay.delivery.decide import Pauses, decide
from relay.delivery.plan import Fail, HaltApp, Plan, Progress, Succeed
from relay.delivery.policy import SenderContext
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Claim, DeadLettered, Settlement

log = structlog.get_logger(__name__)

IDLE_SILENCE_S = 15.0
"""Longest wait between two heartbeats of an idle sender."""

STORE_RETRY_S = 1.0
"""Pause before a write is repeated that the disk had no room for."""


class BatchDelivery:
    """Uploads a claim until each of its events is settled or deferred."""

    def __init__(self, context: SenderContext, claim: Claim, heartbeat: Heartbeat) -> None:
        self._context = context
        self._claim = claim
        self._heartbeat = heartbeat
        self._progress = Progress.start(claim.events)

    async def run(self) -> None:
        """Upload until nothing of the claim is left, or until shutdown is requested.

        At a shutdown the claim stays recorded; the next start sends its events again.
        """
        while self._progress.queue and not self._context.shutdown.is_requested:
            batch, *rest = self._progress.queue
            self._progress = replace(self._progress, queue=tuple(rest))
            await self._deliver(batch)
        if learned := self._progress.learned_size:
            self._context.limits.learn(len(learned.events), learned.size_bytes)

    async def _deliver(self, batch: Batch) -> None:
        permit = await self._acquire()
        if permit is None:
            return
        try:
            # Only now: the wait for the permit may have been a long one.
            batch = await self._without_expired(batch)
            if not batch.events:
                return
            bodies = await self._context.claims.read_bodies([each.seq for each in batch.events])
            if bodies is None:
                self._progress = self._progress.put_first(*await self._without_vanished(batch))
                return
            batch = batch.counted(self._context.claims.now_ms())
            verdict = await self._upload(batch, bodies)
            await self._execute(self._decide(verdict, batch), batch, permit)
        finally:
            self._context.breaker.release(permit)

    async def _acquire(self) -> Permit | None:
        """Wait for the permit of the circuit breaker; None if shutdown is requested first."""
        permit: Permit | None = None
        while permit is None and not self._context.shutdown.is_requested:
            self._heartbeat.beat(IDLE_SILENCE_S)
            with self._context.shutdown.interruptible(), anyio.move_on_after(IDLE_SILENCE_S):
                permit = await self._context.breaker.acquire()
        return permit

    async def _upload(self, batch: Batch, bodies: bytes) -> Verdict:
        context = self._context
        # The claim itself records the first attempt.
        if batch.attempts > 1:
            await self._write(lambda: context.claims.count_attempt(self._claim))
        began_s = context.clock.monotonic_s()
        self._heartbeat.beat(context.policy.timeout_s)
        reply = await context.uploader.upload(bodies)
        verdict = judge_upload(reply, batch.events)
        self._report(batch, reply, verdict, context.clock.monotonic_s() - began_s)
        return verdict

    def _decide(self, verdict: Verdict, batch: Batch) -> Plan:
        context = self._context
        pauses = Pauses(
            hold_s=context.policy.hold_s,
            probe_s=context.breaker.halt_probe_s if context.dispatcher.has_others else 0.0,
        )
        return decide(verdict, batch, self._progress, context.poison, pauses)

    async def _execute(self, plan: Plan, batch: Batch, permit: Permit) -> None:
        context = self._context
        # No `await` since the answer, so that no other sender's decision comes in between.
        self._progress = plan.progress
        context.poison = plan.poison
        self._tell_breaker(plan, permit)
        if plan.grows_limits:
            context.limits.grow()
        for deferral in plan.deferred:
            context.dispatcher.defer(deferral.event, deferral.names, deferral.wait_s)
        await self._settle(plan.settlement)
        if plan.backs_off:
            await self._back_off(batch)

    def _tell_breaker(self, plan: Plan, permit: Permit) -> None:
        breaker = self._context.breaker
        match plan.breaker:
            case Succeed():
                breaker.succeed(permit)
            case Fail(reason, retry_after_s):
                breaker.fail(permit, reason, retry_after_s)
            case HaltApp(reason, cause):
                # Logged once, and by its cause: the reason holds Amplitude's words.
                if breaker.halt(permit, reason):
                    log.error("app.halted", app=self._context.app, reason=cause)
            case None:
                pass
            case _:
                assert_never(plan.breaker)

    async def _back_off(self, batch: Batch) -> None:
        """Wait for the batch's own backoff; that of the breaker comes on top, for the whole app."""
        wait_s = self._context.policy.backoff.delay_s(batch.attempts, rng=self._context.rng)
        self._heartbeat.beat(wait_s)
        with self._context.shutdown.interruptible():
            await anyio.sleep(wait_s)

    # Events that are not uploaded.

    async def _without_expired(self, batch: Batch) -> Batch:
        """Dead-letter events first tried so long ago that Amplitude may not know a repetition."""
        max_age_ms = self._context.policy.max_age_ms
        oldest_at = self._context.claims.now_ms() - max_age_ms
        detail = f"first tried more than {max_age_ms // 1000} s ago"
        dead = [
            DeadLettered(event, "expired", detail)
            for event in map(batch.tried, batch.events)
            if (event.first_tried_at or oldest_at) < oldest_at
        ]
        await self._settle(Settlement(dead=dead))
        return batch.without([each.event.seq for each in dead]) if dead else batch

    async def _without_vanished(self, batch: Batch) -> list[Batch]:
        """Release events that were erased from the outbox since they were claimed."""
        present = await self._context.claims.read_present([each.seq for each in batch.events])
        gone = [event for event in batch.events if event.seq not in present]
        await self._settle(Settlement(vanished=gone))
        left = batch.without([event.seq for event in gone])
        return [left] if left.events else []

    # Writing.

    async def _settle(self, settlement: Settlement) -> None:
        """Write a settlement, then release its events."""
        events = settlement.events
        if not events:
            return
        now_ms = self._context.clock.now_ms()
        await self._write(lambda: self._context.claims.settle(self._claim, settlement, now_ms))
        self._context.dispatcher.finish(self._claim, events)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write until there is room, as long as the disk is full.

        Needs no shield: the change is in the writer's queue before the first `await`, and the
        writer ends last.
        """
        while True:
            self._heartbeat.beat(STORE_RETRY_S)
            try:
                return await write()
            except StoreFull:
                await anyio.sleep(STORE_RETRY_S)

    def _report(
        self, batch: Batch, reply: UploadReply, verdict: Verdict, duration_s: float
    ) -> None:
        """Log and count one upload."""
        outcome = name_outcome(verdict)
        self._context.meter.uploaded(outcome, duration_s)
        write = log.info if isinstance(verdict, Settled | Split) else log.warning
        write(
            "batch.uploaded",
            app=self._context.app,
            outcome=outcome,
            events=len(batch.events),
            status=reply.status,
            failure=reply.failure or None,
            attempt=batch.attempts,
            duration_ms=round(duration_s * 1000),
        )
