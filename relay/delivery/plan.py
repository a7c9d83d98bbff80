"""What can follow from an upload's answer: the vocabulary of `decide`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relay.delivery.batching import Batch
from relay.delivery.poison import PoisonDetector, PoisonSearch
from relay.outbox.claims import DeadLettered, Settlement, Waiting


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the delivery of one claim has come.

    Attributes:
        queue: Batches still to upload, in order.
        search: The claim's part of the search for a poisoned event.
        largest_delivered: The largest batch that was delivered whole, None without any.
        was_too_large: Whether Amplitude found a batch too large.
    """

    queue: tuple[Batch, ...]
    search: PoisonSearch
    largest_delivered: Batch | None = None
    was_too_large: bool = False

    @classmethod
    def start(cls, events: Sequence[Waiting]) -> "Progress":
        """Return the progress of a claim before its first upload."""
        return cls((Batch(events),), PoisonSearch())

    def put_first(self, *batches: Batch) -> "Progress":
        """Return the progress with batches that go before all others."""
        return replace(self, queue=(*batches, *self.queue))

    @property
    def learned_size(self) -> Batch | None:
        """A batch that fitted where a larger one did not, None without any."""
        return self.largest_delivered if self.was_too_large else None


@dataclass(frozen=True, slots=True)
class Succeed:
    """Tells the circuit breaker that Amplitude works: it judged the batch."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Tells the circuit breaker to back off and to decrease its adaptive limit.

    Attributes:
        reason: For the operator.
        retry_after_s: What Amplitude asked for, None if nothing.
    """

    reason: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class HaltApp:
    """Tells the circuit breaker that the app itself is refused.

    Attributes:
        reason: For the operator.
        cause: A stable word for the log.
    """

    reason: str
    cause: str


@dataclass(frozen=True, slots=True)
class Deferral:
    """An event that goes back to the backlog.

    Attributes:
        event: With its tries so far.
        names: Devices and users to hold, named as `ordering.hold_names` does.
        wait_s: Seconds from now.
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
        poison: The app's evidence about refusals, this answer included.
        breaker: What the circuit breaker is told, None if the answer does not concern the app.
        delivered: Confirmed by Amplitude.
        dead: To become dead letters.
        deferred: To wait in the backlog.
        grows_limits: Whether the batch was delivered whole, so that the limits may recover.
        backs_off: Whether this sender waits on its own before its next upload.
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
