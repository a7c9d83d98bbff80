"""A part of a claim that goes in one upload."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from relay.outbox.claims import DeadLettered, Waiting


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

    def without(self, gone: Collection[int]) -> "Load":
        """Return this load without the events of some sequence numbers."""
        return replace(self, events=[e for e in self.events if e.seq not in gone])

    @property
    def size_bytes(self) -> int:
        """Bytes of all bodies."""
        return sum(event.size_bytes for event in self.events)

    def deaths(self, reason: str, detail: str) -> list[DeadLettered]:
        """Return the deaths of all its events."""
        return [DeadLettered(self.tried(event), reason, detail) for event in self.events]
