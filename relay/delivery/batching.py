"""Batches: how many events fit one upload, and how a batch is cut. Pure.

Bytes are counted as serialised: every event, a comma between two, and the envelope.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from relay.amplitude.verdicts import Requeue, Settled
from relay.outbox.claims import DeadLettered, Waiting

Item = TypeVar("Item")

RECOVERY_UPLOADS = 50
"""Uploads delivered whole at a learned size before a larger one is tried."""

RECOVERY_FACTOR = 2


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of one upload.

    Attributes:
        max_events: Events.
        max_bytes: Bytes as serialised, envelope included.
        overhead_bytes: Bytes of the envelope.
    """

    max_events: int
    max_bytes: int
    overhead_bytes: int

    def admits(self, events: int, body_bytes: int) -> bool:
        """Return whether `events` events of `body_bytes` together fit."""
        size_bytes = self.overhead_bytes + body_bytes + max(events - 1, 0)
        return events <= self.max_events and size_bytes <= self.max_bytes


class LearnedLimits:
    """The configured limits, lowered for a while after Amplitude found an upload too large.

    Attributes:
        current: The limits of the next upload.
    """

    def __init__(self, configured: BatchLimits) -> None:
        self._configured = configured
        self._uploads_left = 0
        self.current = configured

    def configure(self, limits: BatchLimits) -> None:
        """Apply other limits, and forget what was learned below the former ones."""
        if limits != self._configured:
            self._configured = self.current = limits

    def learn(self, events: int, body_bytes: int) -> None:
        """Lower the limits to an upload that fitted where a larger one did not."""
        self._uploads_left = RECOVERY_UPLOADS
        size_bytes = self._configured.overhead_bytes + body_bytes + max(events - 1, 0)
        self.current = BatchLimits(
            max_events=min(self.current.max_events, events),
            max_bytes=min(self.current.max_bytes, size_bytes),
            overhead_bytes=self._configured.overhead_bytes,
        )

    def grow(self) -> None:
        """Count an upload delivered whole; after `RECOVERY_UPLOADS` of them, try larger ones."""
        if self.current == self._configured:
            return
        self._uploads_left -= 1
        if self._uploads_left > 0:
            return
        self._uploads_left = RECOVERY_UPLOADS
        self.current = BatchLimits(
            max_events=min(self._configured.max_events, self.current.max_events * RECOVERY_FACTOR),
            max_bytes=min(self._configured.max_bytes, self.current.max_bytes * RECOVERY_FACTOR),
            overhead_bytes=self._configured.overhead_bytes,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of a claim that goes in one upload.

    Attributes:
        events: In order of acceptance.
        attempts: Uploads of this claim that the events were part of.
        first_tried_at: Instant of the first of these uploads in the outbox's own time.
        is_suspect: Whether it is a lone refused event that waits until others are answered.
    """

    events: Sequence[Waiting]
    attempts: int = 0
    first_tried_at: int | None = None
    is_suspect: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all bodies."""
        return sum(event.size_bytes for event in self.events)

    def counted(self, now_ms: int) -> "Batch":
        """Return the batch with one more upload."""
        return replace(
            self, attempts=self.attempts + 1, first_tried_at=self.first_tried_at or now_ms
        )

    def tried(self, event: Waiting) -> Waiting:
        """Return `event` with the uploads of this claim added to its tries."""
        return event._replace(
            first_tried_at=event.first_tried_at or self.first_tried_at,
            attempts=event.attempts + self.attempts,
        )

    def without(self, seqs: Collection[int]) -> "Batch":
        """Return the batch without the events of some sequence numbers."""
        return replace(self, events=[e for e in self.events if e.seq not in seqs])

    def halves(self) -> "list[Batch]":
        """Return the batch in two parts, the larger first; a lone event stays whole."""
        return [replace(self, events=half) for half in halve(self.events)]

    def dead_letter(self, reason: str, detail: str) -> list[DeadLettered]:
        """Return all its events as dead letters."""
        return [DeadLettered(self.tried(event), reason, detail) for event in self.events]


def halve(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut `items` in two, the larger part first; fewer than two stay whole."""
    middle = (len(items) + 1) // 2
    return [part for part in (items[:middle], items[middle:]) if part]


def regroup(items: Sequence[Item], settled: Settled) -> list[Sequence[Item]]:
    """Return the items to requeue after a settled upload, in the batches to send them in.

    If the answer may have named only the first bad event, Amplitude has passed those before it,
    which go together; the rest is halved, so that each further bad event sends half as many
    again. Otherwise all go together.
    """
    places = [
        place for place, outcome in enumerate(settled.outcomes) if isinstance(outcome, Requeue)
    ]
    if not settled.is_partial:
        return [[items[place] for place in places]] if places else []
    # Sent as they are, the others would come back with the next bad event each time.
    first_named = next(
        place for place, outcome in enumerate(settled.outcomes) if not isinstance(outcome, Requeue)
    )
    before = [items[place] for place in places if place < first_named]
    after = [items[place] for place in places if place > first_named]
    return ([before] if before else []) + halve(after)
