"""What follows from an upload's answer: a verdict in, a plan out. Pure.

`relay.amplitude.judge` says what an answer means for the events of a batch. This module says all
that relay does about it; `worker` executes the plan and decides nothing.

| verdict             | the events of the batch                                   | breaker      |
|---------------------|-----------------------------------------------------------|--------------|
| `Settled`           | each delivered, dead-lettered, deferred or uploaded again | succeed      |
| `Split`, several    | both halves are uploaded, one after the other             | succeed      |
| `Split`, one        | dead-lettered                                             | succeed      |
| `Forbidden`, several| both halves are uploaded, one after the other             | -            |
| `Forbidden`, one    | dead-lettered, or a suspect, or the whole claim deferred  | - or halt    |
| `Retry`             | uploaded again after the batch's own backoff              | fail         |
| `Halt`              | uploaded again once the breaker allows it                 | halt         |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from relay.amplitude.verdicts import (
    Dead,
    Delivered,
    Forbidden,
    Halt,
    Hold,
    Requeue,
    Retry,
    Settled,
    Split,
    Verdict,
)
from relay.delivery.batching import Batch, regroup
from relay.delivery.plan import Deferral, Fail, HaltApp, Plan, Progress, Succeed
from relay.delivery.poison import Finding, PoisonDetector, diagnose
from relay.outbox.claims import DeadLettered, Waiting


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long deferred events wait.

    Attributes:
        hold_s: Shortest hold of a throttled device or user.
        probe_s: From one probe of a halted app to the next; 0 if no other events wait that could
            go in place of the deferred ones.
    """

    hold_s: float
    probe_s: float


def decide(
    verdict: Verdict, batch: Batch, progress: Progress, poison: PoisonDetector, pauses: Pauses
) -> Plan:
    """Return what follows from the verdict on an upload.

    Args:
        verdict: On the upload of `batch`.
        batch: What was uploaded; its attempts include this upload.
        progress: What is left of the claim without `batch`.
        poison: The app's evidence about refusals so far.
        pauses: How long deferred events wait.
    """
    match verdict:
        case Settled():
            return _decide_settled(verdict, batch, progress, poison, pauses)
        case Split():
            return _decide_split(verdict, batch, progress, poison)
        case Forbidden():
            return _decide_forbidden(verdict, batch, progress, poison, pauses)
        case Retry():
            # The breaker paces the app. The batch's own backoff comes on top, so that one batch
            # that keeps failing leaves the probes to others.
            return Plan(
                progress=progress.put_first(batch),
                poison=poison,
                breaker=Fail(verdict.reason, verdict.retry_after_s),
                backs_off=True,
            )
        case Halt():
            return Plan(
                progress=progress.put_first(batch),
                poison=poison,
                breaker=HaltApp(verdict.reason, "wrong_key"),
            )
        case _:
            assert_never(verdict)


def _decide_settled(
    settled: Settled, batch: Batch, progress: Progress, poison: PoisonDetector, pauses: Pauses
) -> Plan:
    delivered: list[Waiting] = []
    dead: list[DeadLettered] = []
    deferred: list[Deferral] = []
    for event, outcome in zip(batch.events, settled.outcomes, strict=True):
        match outcome:
            case Delivered():
                delivered.append(event)
            case Dead():
                dead.append(DeadLettered(batch.tried(event), outcome.reason, outcome.detail))
            case Hold():
                wait_s = max(pauses.hold_s, outcome.wait_s or 0.0)
                deferred.append(Deferral(batch.tried(event), _hold_names(outcome), wait_s))
            case Requeue():
                pass  # in a batch of `regroup`
            case _:
                assert_never(outcome)
    is_whole = len(delivered) == len(batch.events)
    largest = progress.largest_delivered
    if is_whole and (largest is None or len(batch.events) > len(largest.events)):
        largest = batch
    again = [replace(batch, events=part) for part in regroup(batch.events, settled)]
    held = {each.event.ordering_key: each.names for each in deferred}
    queue, followers = _defer_keys((*again, *progress.queue), held)
    # Amplitude judges this app's events: a later doubt is a new one, with canaries of its own.
    search = replace(progress.search, canaries=0)
    return Plan(
        progress=Progress(queue, search, largest, progress.was_too_large),
        poison=poison.record_success(),
        breaker=Succeed(),
        delivered=delivered,
        dead=dead,
        deferred=[*deferred, *followers],
        grows_limits=is_whole,
    )


def _defer_keys(
    queue: Sequence[Batch], keys: Mapping[str, frozenset[str]]
) -> tuple[tuple[Batch, ...], list[Deferral]]:
    """Take events out of the queue that would overtake a deferred or suspect one of their key.

    They wait for the same holds, but ask for no longer ones. Suspects stay.
    """
    if not keys:
        return tuple(queue), []
    followers = [
        Deferral(batch.tried(event), keys[event.ordering_key], 0.0)
        for batch in queue
        for event in batch.events
        if event.ordering_key in keys and not batch.is_suspect
    ]
    gone = {deferral.event.seq for deferral in followers}
    rest = [batch.without(gone) for batch in queue]
    return tuple(batch for batch in rest if batch.events), followers


def _hold_names(hold: Hold) -> frozenset[str]:
    return frozenset(f"d:{name}" for name in hold.devices) | {f"u:{name}" for name in hold.users}


def _decide_split(split: Split, batch: Batch, progress: Progress, poison: PoisonDetector) -> Plan:
    if len(batch.events) == 1:
        dead = batch.dead_letter(split.reason, split.detail)
        return Plan(progress=progress, poison=poison, breaker=Succeed(), dead=dead)
    # Learned only from several events: one too large says nothing about how many others fit.
    was_too_large = progress.was_too_large or split.is_size
    halves = replace(progress.put_first(*batch.halves()), was_too_large=was_too_large)
    return Plan(progress=halves, poison=poison, breaker=Succeed())


def _decide_forbidden(
    forbidden: Forbidden, batch: Batch, progress: Progress, poison: PoisonDetector, pauses: Pauses
) -> Plan:
    if len(batch.events) > 1:
        # The breaker is not told: whether the app is refused shows only with a lone event.
        return Plan(progress=progress.put_first(*batch.halves()), poison=poison)
    found = diagnose(
        batch, progress.queue, poison, progress.search, blames_request=forbidden.blames_request
    )
    rest = replace(progress, queue=found.queue, search=found.search)
    match found.finding:
        case Finding.EVENT_REFUSED:
            dead = batch.dead_letter(forbidden.reason, forbidden.detail)
            return Plan(progress=rest, poison=found.detector, dead=dead)
        case Finding.WAIT_FOR_OTHERS | Finding.SEND_CANARY:
            queue, followers = _defer_keys(found.queue, _keys_to_defer(batch, progress.queue))
            rest = replace(rest, queue=queue)
            return Plan(progress=rest, poison=found.detector, deferred=followers)
        case Finding.UNDECIDED:
            return _defer_all(rest, found.detector, pauses.hold_s)
        case Finding.APP_REFUSED:
            # Longer each time until an upload succeeds: or two batches of refused events would
            # alternate and starve the events behind them.
            wait_s = pauses.probe_s * (1 + found.detector.app_refusals)
            reason = f"Amplitude refuses this app's uploads: {forbidden.detail}"
            halt = HaltApp(reason, forbidden.reason)
            return replace(_defer_all(rest, found.detector, wait_s), breaker=halt)
        case _:
            assert_never(found.finding)


def _keys_to_defer(suspect: Batch, queue: Sequence[Batch]) -> dict[str, frozenset[str]]:
    """Return the suspect's ordering key, unless its own events alone are left to test it with."""
    key = suspect.events[0].ordering_key
    others = [event for batch in queue if not batch.is_suspect for event in batch.events]
    has_other_keys = any(event.ordering_key != key for event in others)
    return {key: frozenset({key})} if has_other_keys else {}


def _defer_all(progress: Progress, poison: PoisonDetector, wait_s: float) -> Plan:
    deferred = [
        Deferral(batch.tried(event), frozenset({event.ordering_key}), wait_s)
        for batch in progress.queue
        for event in batch.events
    ]
    return Plan(progress=replace(progress, queue=()), poison=poison, deferred=deferred)
