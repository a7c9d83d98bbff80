"""Plans of every kind: nothing is lost, and nothing is in two places."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

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
from relay.delivery.plan import HaltApp, Plan, Progress
from relay.delivery.poison import PoisonDetector, PoisonSearch
from relay.outbox.claims import Waiting
from tests.support.outboxes import pending_event

PAUSES = Pauses(hold_s=30.0, probe_s=300.0)


@st.composite
def claims(draw: st.DrawFn) -> tuple[Batch, Progress]:
    """A batch that was uploaded, and what is left of its claim, in any order of events."""
    devices = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12))
    events = [pending_event(seq, device) for seq, device in enumerate(devices, start=1)]
    cuts = sorted(draw(st.sets(st.integers(1, len(events)), max_size=4)) | {len(events)})
    parts = [events[first:last] for first, last in zip([0, *cuts], cuts, strict=False)]
    first, *rest = [Batch(part, attempts=1, first_tried_at=5) for part in parts if part]
    suspects = [
        Batch([pending_event(seq, device)], attempts=1, first_tried_at=5, is_suspect=True)
        for seq, device in enumerate(draw(st.lists(st.sampled_from("abg"), max_size=2)), start=50)
    ]
    search = PoisonSearch(draw(st.none() | st.integers(0, 3)), draw(st.integers(0, 3)))
    return first, Progress((*rest, *suspects), search)


@st.composite
def detectors(draw: st.DrawFn) -> PoisonDetector:
    """Evidence of any kind."""
    seqs = st.integers(1, 12)
    taken = draw(st.integers(3, 5))
    suspects = draw(st.dictionaries(seqs, st.integers(0, taken), max_size=4))
    return PoisonDetector(taken, draw(st.integers(0, 6)), draw(st.integers(0, 2)), suspects)


def _outcomes(event: Waiting) -> st.SearchStrategy[Outcome]:
    devices = frozenset({event.device_id or ""})
    return st.sampled_from(
        [
            Delivered(),
            Requeue(),
            Dead("invalid_field", "400"),
            Hold(devices, frozenset(), None, "throttled"),
            Hold(frozenset(), frozenset({"u"}), 3600.0, "quota"),
        ]
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[Verdict, Batch, Progress, PoisonDetector]:
    """Any verdict on any batch with any evidence."""
    batch, progress = draw(claims())
    outcomes = [draw(_outcomes(event)) for event in batch.events]
    has_named = any(not isinstance(outcome, Requeue) for outcome in outcomes)
    verdicts: list[Verdict] = [
        Split("rejected", "400"),
        Split("too_large", "413", is_size=True),
        Forbidden("forbidden", "403"),
        Forbidden("rejected", "404", blames_request=True),
        Retry("status 503", 7.0),
        Halt("bad key"),
        Settled((Delivered(),) * len(batch.events)),
        *([Settled(outcomes, is_partial=draw(st.booleans()))] if has_named else []),
    ]
    return draw(st.sampled_from(verdicts)), batch, progress, draw(detectors())


def _seqs(*batches: Batch) -> list[int]:
    return [event.seq for batch in batches for event in batch.events]


def _queued(plan: Plan) -> list[Waiting]:
    return list(chain.from_iterable(batch.events for batch in plan.progress.queue))


@given(situations())
def test_every_event_of_a_claim_is_in_exactly_one_place(
    situation: tuple[Verdict, Batch, Progress, PoisonDetector],
) -> None:
    """Delivered, dead, deferred or still to upload; and no empty batch is uploaded."""
    verdict, batch, progress, poison = situation
    plan = decide(verdict, batch, progress, poison, PAUSES)
    places = [
        *(event.seq for event in plan.settlement.events),
        *(event.seq for event in _queued(plan)),
    ]
    assert sorted(places) == sorted(_seqs(batch, *progress.queue))
    assert all(each.events for each in plan.progress.queue)


@given(situations())
def test_only_what_amplitude_confirmed_or_judged_is_settled_for_good(
    situation: tuple[Verdict, Batch, Progress, PoisonDetector],
) -> None:
    """Nothing that was not uploaded is delivered or dead; a failure or a halt kills nothing."""
    verdict, batch, progress, poison = situation
    plan = decide(verdict, batch, progress, poison, PAUSES)
    final = [event.seq for event in plan.delivered] + [each.event.seq for each in plan.dead]
    assert set(final) <= set(_seqs(batch))
    if isinstance(verdict, Retry | Halt) or isinstance(plan.breaker, HaltApp):
        assert final == []


@given(situations())
def test_the_order_within_an_ordering_key_holds(
    situation: tuple[Verdict, Batch, Progress, PoisonDetector],
) -> None:
    """No event is uploaded before a deferred one of its key, or out of order with its own."""
    verdict, batch, progress, poison = situation
    plan = decide(verdict, batch, progress, poison, PAUSES)
    waiting = {deferral.event.ordering_key for deferral in plan.deferred}
    for each in plan.progress.queue:
        assert each.is_suspect or not waiting & {event.ordering_key for event in each.events}
    suspects = [each.events[0].seq for each in plan.progress.queue if each.is_suspect]
    regular = [event for event in _queued(plan) if event.seq not in suspects]
    for key in {event.ordering_key for event in regular}:
        seqs = [event.seq for event in regular if event.ordering_key == key]
        assert seqs == sorted(seqs)


@given(situations())
def test_a_claim_comes_to_an_end(
    situation: tuple[Verdict, Batch, Progress, PoisonDetector],
) -> None:
    """What goes again at once is cut, rearranged or less, unless the breaker makes it wait."""
    verdict, batch, progress, poison = situation
    plan = decide(verdict, batch, progress, poison, PAUSES)
    if isinstance(verdict, Retry | Halt):
        return
    before = [_seqs(each) for each in (batch, *progress.queue)]
    assert [_seqs(each) for each in plan.progress.queue] != before


@given(situations())
def test_a_decision_changes_nothing_it_is_given(
    situation: tuple[Verdict, Batch, Progress, PoisonDetector],
) -> None:
    """The same question gets the same answer."""
    assert decide(*situation, PAUSES) == decide(*situation, PAUSES)
