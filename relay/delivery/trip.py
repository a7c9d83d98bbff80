"""One claim on its way to Amplitude, until nothing of it is left in hand.

A claim may come apart on the way: Amplitude names bad events, throttles some, finds an upload
too large. The parts (`Load`) then go one after the other, in order, so that a lane's order
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
    Halt,
    Hold,
    Later,
    Refused,
    Settled,
    Split,
    UploadReply,
    Verdict,
    name_outcome,
)
from relay.delivery.batching import halve, regroup
from relay.delivery.gate import Pass
from relay.delivery.line import Line
from relay.delivery.load import Load
from relay.delivery.refusals import Refusal
from relay.delivery.witness import find_witness
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Claim, Death, Settlement, Waiting

log = structlog.get_logger(__name__)

IDLE_SILENCE_S = 15.0
"""Who waits looks up at least so often."""

STORE_RETRY_S = 1.0
"""Pause before something is written again that the disk had no room for."""


class Trip:
    """One claim on its way."""

    def __init__(self, line: Line, claim: Claim, heartbeat: Heartbeat) -> None:
        self._line = line
        self._claim = claim
        self._heartbeat = heartbeat
        self._loads = deque([Load(claim.events)])
        self._resting: dict[str, frozenset[str]] = {}
        self._largest_taken: Load | None = None
        self._was_too_large = False
        self._heard = 0
        self._takes_before: int | None = None

    async def carry(self) -> None:
        """Send what the claim holds until it is settled or a stop is requested.

        At a stop the claim stays recorded; the next start goes on with it.
        """
        while self._loads and not self._line.stop.is_requested:
            load = await self._without_resting(self._loads.popleft())
            if load.events:
                again = await self._send(load)
                self._loads.extendleft(reversed(again))
        if self._was_too_large and self._largest_taken:
            taken = self._largest_taken
            self._line.limits.learn(len(taken.events), taken.size_bytes)

    async def _send(self, load: Load) -> Sequence[Load]:
        """Upload one load, record what became of it, and return what must go again."""
        line = self._line
        given = await self._enter()
        if given is None:
            return ()
        try:
            load = await self._without_expired(load)
            if not load.events:
                return ()
            bodies = await line.claims.read_bodies([event.seq for event in load.events])
            if bodies is None:
                return await self._without_vanished(load)
            load = load.counted(line.claims.timeline.now_ms())
            if load.attempts > 1:
                await self._write(lambda: line.claims.count_attempt(self._claim))
            began_s = line.clock.monotonic_s()
            self._heartbeat.beat(line.policy.timeout_s)
            reply = await line.uploader.upload(bodies)
            verdict = judge_upload(reply, load.events)
            self._report(load, reply, verdict, line.clock.monotonic_s() - began_s)
            return await self._obey(verdict, load, given)
        finally:
            line.gate.leave(given)

    async def _enter(self) -> Pass | None:
        """Wait for the gate; None if a stop comes first."""
        given: Pass | None = None
        while given is None and not self._line.stop.is_requested:
            self._heartbeat.beat(IDLE_SILENCE_S)
            with self._line.stop.interruptible(), anyio.move_on_after(IDLE_SILENCE_S):
                given = await self._line.gate.enter()
        return given

    # What a verdict asks for.

    async def _obey(self, verdict: Verdict, load: Load, given: Pass) -> Sequence[Load]:
        """Do what a verdict says and return the loads that must go again."""
        gate = self._line.gate
        match verdict:
            case Settled():
                self._line.refusals.taken()
                self._heard = 0
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
        held: list[Waiting] = []
        for event, outcome in zip(load.events, settled.outcomes, strict=True):
            if isinstance(outcome, Delivered):
                delivered.append(event)
            elif isinstance(outcome, Dead):
                dead.append(Death(load.tried(event), outcome.reason, outcome.detail))
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
        wait_s = max(self._line.policy.hold_s, hold.wait_s or 0.0)
        self._line.dispatcher.rest(event, names, wait_s)
        self._resting[event.lane] = names

    def _note_taken(self, load: Load) -> None:
        self._line.limits.grow()
        if not self._largest_taken or len(load.events) > len(self._largest_taken.events):
            self._largest_taken = load

    async def _obey_split(self, split: Split, load: Load) -> Sequence[Load]:
        if len(load.events) > 1:
            self._was_too_large = self._was_too_large or split.is_size
            return self._halves(load)
        await self._settle(Settlement(dead=load.deaths(split.reason, split.detail)))
        return ()

    async def _obey_refused(self, refused: Refused, load: Load, given: Pass) -> Sequence[Load]:
        if len(load.events) > 1:
            return self._halves(load)
        event, refusals = load.events[0], self._line.refusals
        if self._takes_before is None:
            self._takes_before = refusals.takes
        judgement = refusals.judge_alone(event.seq, dies_alone=refused.dies_alone)
        if judgement is Refusal.DIES:
            await self._settle(Settlement(dead=load.deaths(refused.reason, refused.detail)))
            return ()
        self._loads.append(replace(load, is_suspect=True))
        others = [other for other in self._loads if other.events and not other.is_suspect]
        if any(each.lane != event.lane for other in others for each in other.events):
            self._resting[event.lane] = frozenset({event.lane})
        if judgement is Refusal.WAITS and others:
            return ()  # they are the proof
        if witness := find_witness(self._loads, self._heard):
            self._heard += 1
            self._loads = deque(other.without([witness.seq]) for other in self._loads)
            return (Load([witness], load.attempts, load.first_tried_at),)
        await self._give_up(refused, given)
        return ()

    async def _give_up(self, refused: Refused, given: Pass) -> None:
        """Put all that is left back in line, behind others; halt the app if nothing was taken."""
        line = self._line
        wait_s = line.policy.hold_s
        if line.refusals.takes == self._takes_before:
            words = f"Amplitude refuses this app's uploads: {refused.detail}"
            self._halt(given, words, refused.reason)
            tries = line.refusals.shut()
            wait_s = tries * line.gate.halt_probe_s if line.dispatcher.has_others else 0.0
        left = [load.tried(event) for load in self._loads for event in load.events]
        self._loads.clear()
        for event in left:
            line.dispatcher.rest(event, frozenset({event.lane}), wait_s)
        await self._settle(Settlement(released=left))

    def _halves(self, load: Load) -> list[Load]:
        return [replace(load, events=half) for half in halve(load.events)]

    def _halt(self, given: Pass, words: str, reason: str) -> None:
        """Stop this app's uploads; the log tells it once, and never in Amplitude's words."""
        if self._line.gate.halt(given, words):
            log.error("app.halted", app=self._line.app, reason=reason)

    async def _pause(self, load: Load) -> None:
        """Wait for this load's own backoff; the gate's comes on top for the whole app."""
        wait_s = self._line.policy.backoff.delay_s(load.attempts, rng=self._line.rng)
        self._heartbeat.beat(wait_s)
        with self._line.stop.interruptible():
            await anyio.sleep(wait_s)

    # What does not go.

    async def _without_resting(self, load: Load) -> Load:
        """Put back events whose lane rests because of an earlier one."""
        if load.is_suspect or not self._resting or not load.events:
            return load
        resting = [load.tried(event) for event in load.events if event.lane in self._resting]
        for event in resting:
            self._line.dispatcher.rest(event, self._resting[event.lane], 0.0)
        await self._settle(Settlement(released=resting))
        return load.without([event.seq for event in resting])

    async def _without_expired(self, load: Load) -> Load:
        """Bury events first tried too long ago for Amplitude to recognise a repetition."""
        policy = self._line.policy
        oldest_at = self._line.claims.timeline.now_ms() - policy.max_age_ms
        expired = [
            load.tried(event)
            for event in load.events
            if (event.first_tried_at or load.first_tried_at or oldest_at) < oldest_at
        ]
        detail = f"first tried more than {policy.max_age_ms // 1000} s ago"
        await self._settle(Settlement(dead=[Death(event, "expired", detail) for event in expired]))
        return load.without([event.seq for event in expired]) if expired else load

    async def _without_vanished(self, load: Load) -> Sequence[Load]:
        """Let go of events that a person has removed meanwhile."""
        present = await self._line.claims.read_present([event.seq for event in load.events])
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
        now_ms = self._line.clock.now_ms()
        await self._write(lambda: self._line.claims.settle(self._claim, settlement, now_ms))
        self._line.dispatcher.finish(self._claim, events)

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

    def _report(self, load: Load, reply: UploadReply, verdict: Verdict, duration_s: float) -> None:
        """Write the one line of this upload."""
        outcome = name_outcome(verdict)
        self._line.meter.uploaded(outcome, duration_s)
        write = log.info if isinstance(verdict, Settled | Split) else log.warning
        write(
            "batch.uploaded",
            app=self._line.app,
            outcome=outcome,
            events=len(load.events),
            status=reply.status,
            failure=reply.failure or None,
            attempt=load.attempts,
            duration_ms=round(duration_s * 1000),
        )
