"""The plan for every verdict, case by case: one event and many, with any app state."""

from dataclasses import replace
from typing import Literal, NamedTuple

import pytest

from relay.amplitude.verdicts import (
    Dead,
    Delivered,
    Forbidden,
    Halt,
    Hold,
    Outcome,
    Requeue,
    Retry,
    Settled,
    Split,
    Verdict,
)
from relay.delivery.batching import Batch
from relay.delivery.decide import Pauses, decide
from relay.delivery.plan import Fail, HaltApp, Plan, Progress, Succeed
from relay.delivery.poison import MAX_REFUSED_IN_A_ROW, PoisonDetector, PoisonSearch
from relay.outbox.claims import Waiting
from tests.support.outboxes import pending_event

HOLD_S, PROBE_S = 30.0, 300.0
PAUSES = Pauses(HOLD_S, PROBE_S)

A, B, C, D = (pending_event(seq, name) for seq, name in enumerate("abcd", start=1))
A2 = pending_event(5, "a")
E = pending_event(6, "e")

TAKEN, AGAIN = Delivered(), Requeue()
REJECTED = Dead("invalid_field", "400 No (time)")


def _hold(device: str, wait_s: float | None = None) -> Hold:
    return Hold(frozenset({device}), frozenset(), wait_s, "throttled")


def _batch(*events: Waiting) -> Batch:
    return Batch(events, attempts=2, first_tried_at=1_000)


def _decide(
    verdict: Verdict,
    *events: Waiting,
    rest: tuple[Waiting, ...] = (),
    poison: PoisonDetector | None = None,
    probe_s: float = PROBE_S,
) -> Plan:
    """Decide on an upload of `events`, with one batch of `rest` behind it."""
    queue = (_batch(*rest),) if rest else ()
    progress = Progress(queue, PoisonSearch())
    pauses = Pauses(HOLD_S, probe_s)
    return decide(verdict, _batch(*events), progress, poison or PoisonDetector(), pauses)


def _queue(plan: Plan) -> list[list[int]]:
    return [[event.seq for event in batch.events] for batch in plan.progress.queue]


def _dead(plan: Plan) -> dict[int, str]:
    return {dead_letter.event.seq: dead_letter.reason for dead_letter in plan.dead}


def _deferred(plan: Plan) -> dict[int, float]:
    return {deferral.event.seq: deferral.wait_s for deferral in plan.deferred}


# The table.

PROVEN = PoisonDetector(successes=1, suspects={1: 0})
IN_DOUBT = PoisonDetector(refused_in_a_row=MAX_REFUSED_IN_A_ROW)
NOTHING = PoisonDetector()

Places = Literal["delivered", "dead", "deferred", "again", "suspect"]


class Case(NamedTuple):
    """A verdict in a situation, and what follows.

    Attributes:
        verdict: On the upload.
        events: What was uploaded: A alone, or A to D.
        rest: Later batch of the same claim: E, or nothing.
        poison: What is known of the app's refusals.
        first: Where A ends.
        breaker: How the circuit breaker changes.
        queue: What is uploaded next.
    """

    verdict: Verdict
    events: tuple[Waiting, ...]
    rest: tuple[Waiting, ...]
    poison: PoisonDetector
    first: Places
    breaker: type[Succeed | Fail | HaltApp] | None
    queue: list[list[int]]


def _settled(first: Outcome, others: Outcome) -> Settled:
    return Settled((first, others, others, others))


FORBIDDEN = Forbidden("forbidden", "403 No")
GONE = Forbidden("rejected", "404", blames_request=True)
SPLIT, LARGE = Split("rejected", "400"), Split("too_large", "413", is_size=True)
RETRY, HALT = Retry("status 503", 7.0), Halt("bad key")
ONE, MANY = (A,), (A, B, C, D)
WITH_REST, NO_REST = (E,), ()

TABLE = [
    Case(Settled((TAKEN,)), ONE, WITH_REST, NOTHING, "delivered", Succeed, [[6]]),
    Case(Settled((REJECTED,)), ONE, WITH_REST, NOTHING, "dead", Succeed, [[6]]),
    Case(Settled((_hold("a"),)), ONE, WITH_REST, NOTHING, "deferred", Succeed, [[6]]),
    Case(_settled(TAKEN, TAKEN), MANY, WITH_REST, NOTHING, "delivered", Succeed, [[6]]),
    Case(_settled(REJECTED, AGAIN), MANY, WITH_REST, NOTHING, "dead", Succeed, [[2, 3, 4], [6]]),
    Case(
        _settled(_hold("a"), AGAIN), MANY, WITH_REST, NOTHING, "deferred", Succeed, [[2, 3, 4], [6]]
    ),
    Case(_settled(AGAIN, REJECTED), MANY, WITH_REST, NOTHING, "again", Succeed, [[1], [6]]),
    *(
        case
        for each in (NOTHING, PROVEN, IN_DOUBT)
        for case in (
            Case(SPLIT, ONE, WITH_REST, each, "dead", Succeed, [[6]]),
            Case(LARGE, ONE, WITH_REST, each, "dead", Succeed, [[6]]),
            Case(SPLIT, MANY, WITH_REST, each, "again", Succeed, [[1, 2], [3, 4], [6]]),
            Case(LARGE, MANY, WITH_REST, each, "again", Succeed, [[1, 2], [3, 4], [6]]),
            Case(RETRY, ONE, WITH_REST, each, "again", Fail, [[1], [6]]),
            Case(RETRY, MANY, WITH_REST, each, "again", Fail, [[1, 2, 3, 4], [6]]),
            Case(HALT, ONE, WITH_REST, each, "again", HaltApp, [[1], [6]]),
            Case(HALT, MANY, WITH_REST, each, "again", HaltApp, [[1, 2, 3, 4], [6]]),
            Case(FORBIDDEN, MANY, WITH_REST, each, "again", None, [[1, 2], [3, 4], [6]]),
            Case(GONE, MANY, NO_REST, each, "again", None, [[1, 2], [3, 4]]),
        )
    ),
    Case(FORBIDDEN, ONE, WITH_REST, NOTHING, "suspect", None, [[6], [1]]),
    Case(FORBIDDEN, ONE, WITH_REST, PROVEN, "dead", None, [[6]]),
    Case(FORBIDDEN, ONE, WITH_REST, IN_DOUBT, "suspect", None, [[6], [1]]),
    Case(FORBIDDEN, ONE, NO_REST, NOTHING, "deferred", HaltApp, []),
    Case(FORBIDDEN, ONE, NO_REST, PROVEN, "dead", None, []),
    Case(FORBIDDEN, ONE, NO_REST, IN_DOUBT, "deferred", HaltApp, []),
    Case(GONE, ONE, WITH_REST, NOTHING, "dead", None, [[6]]),
    Case(GONE, ONE, WITH_REST, PROVEN, "dead", None, [[6]]),
    Case(GONE, ONE, WITH_REST, IN_DOUBT, "suspect", None, [[6], [1]]),
    Case(GONE, ONE, NO_REST, NOTHING, "dead", None, []),
    Case(GONE, ONE, NO_REST, IN_DOUBT, "deferred", HaltApp, []),
]


@pytest.mark.parametrize("case", TABLE)
def test_what_follows_from_a_verdict(case: Case) -> None:
    """Where the first event ends, how the breaker changes, and what is uploaded next."""
    plan = _decide(case.verdict, *case.events, rest=case.rest, poison=case.poison)
    assert _places(plan, A.seq) == [case.first]
    assert _queue(plan) == case.queue
    assert (type(plan.breaker) if plan.breaker else None) is case.breaker


def _places(plan: Plan, seq: int) -> list[Places]:
    found: list[Places] = []
    found += ["delivered" for event in plan.delivered if event.seq == seq]
    found += ["dead" for dead_letter in plan.dead if dead_letter.event.seq == seq]
    found += ["deferred" for deferral in plan.deferred if deferral.event.seq == seq]
    for batch in plan.progress.queue:
        is_there = any(event.seq == seq for event in batch.events)
        found += ["suspect" if batch.is_suspect else "again"] * is_there
    return found


# Settled.


def test_an_upload_delivered_whole_lets_the_limits_recover() -> None:
    """A partial delivery says nothing about the size."""
    assert _decide(_settled(TAKEN, TAKEN), A, B, C, D).grows_limits
    assert not _decide(_settled(REJECTED, AGAIN), A, B, C, D).grows_limits
    assert not _decide(Settled((REJECTED,)), A).grows_limits


def test_dead_letters_know_their_reason_and_their_tries() -> None:
    """The attempts of this claim are added to the earlier ones."""
    (dead_letter,) = _decide(Settled((REJECTED,)), A._replace(attempts=3)).dead
    assert (dead_letter.reason, dead_letter.detail) == ("invalid_field", "400 No (time)")
    assert (dead_letter.event.attempts, dead_letter.event.first_tried_at) == (5, 1_000)


@pytest.mark.parametrize(("asked_s", "wait_s"), [(None, HOLD_S), (5.0, HOLD_S), (90.0, 90.0)])
def test_a_throttled_event_is_held_as_long_as_asked_and_never_shorter_than_configured(
    asked_s: float | None, wait_s: float
) -> None:
    """A 429 with ids holds those devices and users, with their attempts so far."""
    hold = Hold(frozenset({"a"}), frozenset({"u"}), asked_s, "throttled")
    (deferral,) = _decide(Settled((hold,)), A).deferred
    assert deferral.names == {"d:a", "u:u"}
    assert deferral.wait_s == wait_s
    assert (deferral.event.attempts, deferral.event.first_tried_at) == (2, 1_000)


def test_events_of_a_held_ordering_key_wait_with_it() -> None:
    """Otherwise they would overtake it, from the same batch or a later one."""
    settled = Settled((_hold("a", 90.0), AGAIN, AGAIN))
    plan = _decide(settled, A, A2, B, rest=(A._replace(seq=9), C))
    assert _queue(plan) == [[2], [3]]
    assert _deferred(plan) == {1: 90.0, 5: 0.0, 9: 0.0}
    assert {deferral.names for deferral in plan.deferred} == {frozenset({"d:a"})}


def test_something_settled_is_evidence_for_the_app() -> None:
    """Whatever its outcomes, Amplitude judged the events: the app is not refused."""
    poison = PoisonDetector(successes=3, refused_in_a_row=2, app_refusals=1, suspects={9: 3})
    for verdict in (Settled((TAKEN,)), Settled((REJECTED,)), Settled((_hold("a"),))):
        plan = _decide(verdict, A, poison=poison)
        assert plan.poison == PoisonDetector(successes=4, suspects={9: 3})


def test_something_settled_lets_canary_events_go_again() -> None:
    """The claim's next doubt is another one; earlier successes still count."""
    progress = Progress((), PoisonSearch(successes_before=2, canaries=3))
    plan = decide(Settled((TAKEN,)), _batch(A), progress, NOTHING, PAUSES)
    assert plan.progress.search == PoisonSearch(successes_before=2, canaries=0)


# Split.


def test_a_size_is_learned_from_the_largest_batch_delivered_after_one_too_large() -> None:
    """Learned when the claim ends; an unexplained 400 says nothing about size."""
    for split, sizes in ((LARGE, {2}), (SPLIT, set())):
        plan = _decide(split, A, B, C, D)
        for _ in range(2):
            first, *rest = plan.progress.queue
            progress = replace(plan.progress, queue=tuple(rest))
            plan = decide(Settled((TAKEN, TAKEN)), first, progress, plan.poison, PAUSES)
        learned = plan.progress.learned_size
        assert {len(batch.events) for batch in [learned] if batch} == sizes


@pytest.mark.parametrize("parts", [((A,), (B, C)), ((A, B), (C,))])
def test_the_largest_of_several_batches_delivered_is_learned(
    parts: tuple[tuple[Waiting, ...], ...],
) -> None:
    """In any order."""
    progress = Progress((), PoisonSearch(), was_too_large=True)
    for part in parts:
        settled = Settled((TAKEN,) * len(part))
        progress = decide(settled, _batch(*part), progress, NOTHING, PAUSES).progress
    assert progress.learned_size
    assert len(progress.learned_size.events) == 2


def test_a_batch_too_large_is_not_forgotten_over_one_refused_for_its_content() -> None:
    """The size of what fits later is still worth remembering."""
    progress = Progress((), PoisonSearch(), was_too_large=True)
    assert decide(SPLIT, _batch(A, B), progress, NOTHING, PAUSES).progress.was_too_large


def test_a_lone_event_too_large_teaches_nothing() -> None:
    """It says nothing about how many others fit."""
    assert not _decide(LARGE, A).progress.was_too_large


# Retry and Halt.


def test_a_failed_upload_goes_again_unchanged_after_its_own_backoff() -> None:
    """`Retry-After` reaches the breaker, and the batch keeps its attempts."""
    plan = _decide(Retry("status 429: the project is throttled", 45.0), A, B, rest=(C,))
    assert plan.breaker == Fail("status 429: the project is throttled", 45.0)
    assert plan.backs_off
    assert plan.progress.queue[0] == _batch(A, B)
    assert not plan.settlement.events


def test_a_bad_key_halts_without_a_backoff_of_the_sender() -> None:
    """The breaker's probe decides when to try again."""
    plan = _decide(Halt("Amplitude does not know the API key"), A)
    assert plan.breaker == HaltApp("Amplitude does not know the API key", "wrong_key")
    assert not plan.backs_off


# Forbidden.


def test_a_suspect_keeps_later_events_of_its_device_behind_it() -> None:
    """They would overtake it while the canary events are tried."""
    plan = _decide(FORBIDDEN, A, rest=(A2, B, C))
    assert _queue(plan) == [[2, 3], [1]]
    assert _deferred(plan) == {5: 0.0}


def test_a_suspects_own_device_is_the_test_if_there_is_no_other() -> None:
    """If they were deferred, there would be no canary event left."""
    plan = _decide(FORBIDDEN, A, rest=(A2,))
    assert _queue(plan) == [[5], [1]]
    assert not plan.deferred


def test_a_refused_app_is_halted_and_its_events_give_way_longer_each_time() -> None:
    """Two claims of refused events would alternate and starve those behind them."""
    waits: list[float] = []
    poison = PoisonDetector()
    for _ in range(3):
        plan = _decide(FORBIDDEN, A, poison=poison)
        poison = plan.poison
        waits += _deferred(plan).values()
        assert plan.breaker == HaltApp("Amplitude refuses this app's uploads: 403 No", "forbidden")
    assert waits == [2 * PROBE_S, 3 * PROBE_S, 4 * PROBE_S]


def test_a_refused_app_without_other_events_keeps_its_own_at_hand() -> None:
    """No other event would use the probe they give way to."""
    assert _deferred(_decide(FORBIDDEN, A, probe_s=0.0)) == {1: 0.0}


def test_an_undecided_claim_is_deferred_and_the_app_goes_on() -> None:
    """Another sender's upload succeeded, so the app is not refused."""
    progress = Progress((), PoisonSearch(successes_before=3))
    plan = decide(FORBIDDEN, _batch(A), progress, PoisonDetector(successes=4), PAUSES)
    assert _deferred(plan) == {1: HOLD_S}
    assert plan.breaker is None
