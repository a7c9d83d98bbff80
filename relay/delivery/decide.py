"""What follows from an upload's answer: a verdict in, a plan out. Pure.

`relay.amplitude.judge` says what an answer means for the events of a batch; this module says all
that relay does about it, and `worker` carries that out.

| verdict | events of the batch | circuit breaker |
|---|---|---|
| `Settled` | delivered, dead-lettered, deferred; the others again, regrouped | succeed |
| `Split`, several events | the halves, one after the other | succeed |
| `Split`, one event | dead-lettered | succeed |
| `Forbidden`, several events | the halves, one after the other | – |
| `Forbidden`, one event | see `poison`: dead-lettered, a suspect, or the claim is deferred | – or halt |
| `Retry` | the same again, after a backoff of its own | fail |
| `Halt` | the same again | halt |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from relay.delivery.poison import Finding, PoisonDetector, Trial, diagnose
from relay.outbox.claims import DeadLettered, Settlement, Waiting


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the delivery of one claim has come.

    Attributes:
        queue: Batches still to upload, in order.
        blocked: Ordering keys whose events in `queue` must be deferred, and what to hold for
            them: an earlier event of theirs was deferred. Suspects are exempt.
        trial: The search for the reason of refusals.
        largest_taken: The largest batch that Amplitude took whole, None without any.
        was_too_large: Whether Amplitude found a batch too large.
    """

    queue: tuple[Batch, ...]
    blocked: Mapping[str, frozenset[str]] = field(default_factory=dict)
    trial: Trial = Trial()
    largest_taken: Batch | None = None
    was_too_large: bool = False

    def put_first(self, *batches: Batch) -> "Progress":
        """Return the progress with batches that go before all others."""
        return replace(self, queue=(*batches, *self.queue))

    @property
    def learned_size(self) -> Batch | None:
        """A batch whose size Amplitude takes where it refused a larger one."""
        return self.largest_taken if self.was_too_large else None


@dataclass(frozen=True, slots=True)
class Succeed:
    """Tells the circuit breaker that Amplitude took the upload, or judged its content."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Tells the circuit breaker to back off; the adaptive limit is decreased with it.

    Attributes:
        reason: For the operator.
        retry_after_s: What Amplitude asked for, None if nothing.
    """

    reason: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class HaltApp:
    """Tells the circuit breaker that the app is refused.

    Attributes:
        reason: For the operator.
        cause: The same as a stable word, for the log.
    """

    reason: str
    cause: str


@dataclass(frozen=True, slots=True)
class Deferral:
    """An event that goes back to the backlog.

    Attributes:
        event: With its tries so far.
        names: Devices and users to hold, named as `ordering.hold_names` does.
        wait_s: How long.
    """

    event: Waiting
    names: frozenset[str]
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that follows from one verdict.

    Each event of the claim that was not settled before is in exactly one place: `delivered`,
    `dead`, `deferred` or `progress.queue`.

    Attributes:
        progress: What is left of the claim.
        poison: The app's evidence about refusals, as it is now.
        breaker: What the circuit breaker is told; None: the answer says nothing about the app.
        delivered: Confirmed by Amplitude.
        dead: Becoming dead letters.
        deferred: Going back to the backlog.
        grows_limits: Whether the batch was taken whole, so that larger ones may be tried.
        backs_off: Whether this sender waits before its next upload, apart from the breaker.
    """

    progress: Progress
    poison: PoisonDetector
    breaker: Succeed | Fail | HaltApp | None = None
    delivered: Sequence[Waiting] = ()
    dead: Sequence[DeadLettered] = ()
    deferred: Sequence[Deferral] = ()
    grows_limits: bool = False
    backs_off: bool = False

    @property
    def settlement(self) -> Settlement:
        """What is written to the outbox."""
        released = [deferral.event for deferral in self.deferred]
        return Settlement(delivered=self.delivered, dead=self.dead, released=released)


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
    largest = progress.largest_taken
    if is_whole and (largest is None or len(batch.events) > len(largest.events)):
        largest = batch
    again = [replace(batch, events=part) for part in regroup(batch.events, settled)]
    blocked = {each.event.ordering_key: each.names for each in deferred}
    return Plan(
        progress=replace(
            progress.put_first(*again),
            blocked={**progress.blocked, **blocked},
            trial=replace(progress.trial, canaries=0),
            largest_taken=largest,
        ),
        poison=poison.record_taken(),
        breaker=Succeed(),
        delivered=delivered,
        dead=dead,
        deferred=deferred,
        grows_limits=is_whole,
    )


def _hold_names(hold: Hold) -> frozenset[str]:
    return frozenset(f"d:{name}" for name in hold.devices) | {f"u:{name}" for name in hold.users}


def _decide_split(split: Split, batch: Batch, progress: Progress, poison: PoisonDetector) -> Plan:
    if len(batch.events) == 1:
        dead = batch.dead_letter(split.reason, split.detail)
        return Plan(progress=progress, poison=poison, breaker=Succeed(), dead=dead)
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
        batch, progress.queue, poison, progress.trial, blames_request=forbidden.blames_request
    )
    rest = replace(progress, queue=found.queue, trial=found.trial)
    match found.finding:
        case Finding.EVENT_REFUSED:
            dead = batch.dead_letter(forbidden.reason, forbidden.detail)
            return Plan(progress=rest, poison=found.detector, dead=dead)
        case Finding.WAIT_FOR_OTHERS | Finding.SEND_CANARY:
            key = batch.events[0].ordering_key
            blocked = {**rest.blocked, **_blocked_by_suspect(key, progress.queue)}
            return Plan(progress=replace(rest, blocked=blocked), poison=found.detector)
        case Finding.UNDECIDED:
            return _defer_all(rest, found.detector, pauses.hold_s)
        case Finding.APP_REFUSED:
            # Longer each time until something is taken: or two batches of refused events would
            # alternate and starve the events behind them.
            wait_s = pauses.probe_s * (1 + found.detector.app_refusals)
            reason = f"Amplitude refuses this app's uploads: {forbidden.detail}"
            halt = HaltApp(reason, forbidden.reason)
            return replace(_defer_all(rest, found.detector, wait_s), breaker=halt)
        case _:
            assert_never(found.finding)


def _blocked_by_suspect(key: str, queue: Sequence[Batch]) -> dict[str, frozenset[str]]:
    """Block a suspect's ordering key, unless only events of it could show whether it is to blame."""
    others = [event for batch in queue if not batch.is_suspect for event in batch.events]
    return {key: frozenset({key})} if any(e.ordering_key != key for e in others) else {}


def _defer_all(progress: Progress, poison: PoisonDetector, wait_s: float) -> Plan:
    deferred = [
        Deferral(batch.tried(event), frozenset({event.ordering_key}), wait_s)
        for batch in progress.queue
        for event in batch.events
    ]
    return Plan(progress=replace(progress, queue=()), poison=poison, deferred=deferred)
