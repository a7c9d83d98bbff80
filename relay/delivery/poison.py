"""Tells a refused event from a refused app. Pure.

A 403 (or a 404, or another answer from in front of Amplitude) may concern the content of one
event, or everything the app sends. Halving leads to a lone refused event, a *suspect*. It is to
blame only if it is refused alone again after another upload succeeded. If the rest of its claim
cannot show that, a *canary event* goes first: one of the others, alone. If the canaries are
refused as well, so is the app; it is halted, and nothing is lost.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from relay.delivery.batching import Batch
from relay.outbox.claims import Waiting

MAX_REFUSED_IN_A_ROW = 5
"""Lone events refused without a success in between, beyond which the app is in doubt."""

MAX_CANARIES = 3
"""Canary events sent in a row, one at a time, before the app counts as refused."""

MAX_SUSPECTS = 10_000
"""Suspects remembered, the latest."""


@dataclass(frozen=True, slots=True)
class PoisonDetector:
    """What one app's uploads have shown so far, over all of its senders; a value.

    Attributes:
        successes: Uploads that got an answer for each of their events.
        refused_in_a_row: Lone events refused since the last success.
        app_refusals: Times the app was found refused since the last success.
        suspects: Suspects by sequence number, oldest first: `successes` at their first refusal.
    """

    successes: int = 0
    refused_in_a_row: int = 0
    app_refusals: int = 0
    suspects: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_app_in_doubt(self) -> bool:
        """Whether too many events were refused alone for the events to be the reason."""
        return self.refused_in_a_row > MAX_REFUSED_IN_A_ROW

    def is_proven(self, seq: int) -> bool:
        """Return whether an upload succeeded since this event was first refused alone."""
        return self.successes > self.suspects.get(seq, self.successes)

    def record_success(self) -> "PoisonDetector":
        """Return the detector after a successful upload."""
        return PoisonDetector(self.successes + 1, suspects=self.suspects)

    def record_suspect(self, seq: int) -> "PoisonDetector":
        """Return the detector with one suspect more; the first refusal of a suspect counts."""
        suspects = {**self.suspects}
        suspects.setdefault(seq, self.successes)
        if len(suspects) > MAX_SUSPECTS:
            del suspects[next(iter(suspects))]
        return replace(self, suspects=suspects)

    def forget(self, seq: int) -> "PoisonDetector":
        """Return the detector without a suspect."""
        return replace(self, suspects={s: t for s, t in self.suspects.items() if s != seq})


@dataclass(frozen=True, slots=True)
class PoisonSearch:
    """The search for the reason of refusals within one claim.

    Attributes:
        successes_before: The app's successes at the claim's first lone refusal, None before it.
        canaries: Canary events sent since the claim's last success.
    """

    successes_before: int | None = None
    canaries: int = 0


class Finding(Enum):
    """What a lone refusal shows."""

    EVENT_REFUSED = auto()
    """Other events are accepted: this one is to blame."""

    WAIT_FOR_OTHERS = auto()
    """The answers to the rest of the claim will tell."""

    SEND_CANARY = auto()
    """The rest may be refused for its content too: a canary event goes first."""

    APP_REFUSED = auto()
    """No upload succeeded since the first lone refusal of the claim."""

    UNDECIDED = auto()
    """Uploads succeeded, but nothing left in the claim can tell."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a lone refusal shows, and the evidence after it.

    Attributes:
        finding: The conclusion.
        detector: The app's evidence.
        search: The claim's evidence.
        queue: The claim's batches, in the order to send them; with the suspect, at the end, unless
            the event is refused.
    """

    finding: Finding
    detector: PoisonDetector
    search: PoisonSearch
    queue: tuple[Batch, ...]


def diagnose(
    refused: Batch,
    queue: tuple[Batch, ...],
    detector: PoisonDetector,
    search: PoisonSearch,
    *,
    blames_request: bool,
) -> Diagnosis:
    """Return what the refusal of a lone event shows.

    Args:
        refused: The batch with that event.
        queue: The other batches of its claim.
        detector: The app's evidence so far.
        search: The claim's evidence so far.
        blames_request: Whether the answer speaks of the request rather than of the sender.
    """
    seq = refused.events[0].seq
    if search.successes_before is None:
        search = replace(search, successes_before=detector.successes)
    if detector.is_proven(seq):
        return Diagnosis(Finding.EVENT_REFUSED, detector.forget(seq), search, queue)
    detector = replace(detector, refused_in_a_row=detector.refused_in_a_row + 1)
    # Such an answer may dead-letter a few events unproven, but a proxy that answers 404 to
    # everything must not empty the outbox.
    if blames_request and not detector.is_app_in_doubt:
        return Diagnosis(Finding.EVENT_REFUSED, detector, search, queue)
    detector = detector.record_suspect(seq)
    has_others = any(not batch.is_suspect for batch in queue)
    queue = (*queue, replace(refused, is_suspect=True))
    if has_others and not detector.is_app_in_doubt:
        return Diagnosis(Finding.WAIT_FOR_OTHERS, detector, search, queue)
    return _diagnose_app(queue, detector, search)


def _diagnose_app(
    queue: tuple[Batch, ...], detector: PoisonDetector, search: PoisonSearch
) -> Diagnosis:
    """Return the canary event to send first, or what is known when there is none left."""
    if canary := _find_canary(queue, search.canaries):
        alone, rest = _pull_forward(canary, queue)
        search = replace(search, canaries=search.canaries + 1)
        return Diagnosis(Finding.SEND_CANARY, detector, search, (alone, *rest))
    if detector.successes != search.successes_before:
        return Diagnosis(Finding.UNDECIDED, detector, search, queue)
    detector = replace(detector, app_refusals=detector.app_refusals + 1)
    return Diagnosis(Finding.APP_REFUSED, detector, search, queue)


def _find_canary(queue: Sequence[Batch], sent: int) -> Waiting | None:
    """Return an event that may overtake all others, None if there is none left to try."""
    if sent >= MAX_CANARIES:
        return None
    shares = Counter(event.ordering_key for batch in queue for event in batch.events)
    others = [event for batch in queue if not batch.is_suspect for event in batch.events]
    free = [event for event in others if shares[event.ordering_key] == 1]
    # From the far end first: the neighbours of a refused event are likely to be refused too.
    return free[(len(free) - 1) // (sent + 1)] if free else None


def _pull_forward(canary: Waiting, queue: Sequence[Batch]) -> tuple[Batch, list[Batch]]:
    """Return the canary event in a batch of its own, and the other batches without it."""
    home = next(batch for batch in queue if canary in batch.events)
    rest = [batch.without([canary.seq]) for batch in queue]
    return replace(home, events=[canary]), [batch for batch in rest if batch.events]
