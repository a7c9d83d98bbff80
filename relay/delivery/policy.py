"""What an app's senders share: its numbers, its parts, and what they need of others."""

from dataclasses import dataclass
from random import Random
from typing import Protocol

from relay.amplitude.verdicts import UploadReply
from relay.clock import Clock
from relay.delivery.batching import LearnedLimits
from relay.delivery.circuit_breaker import BackoffPolicy, CircuitBreaker
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.poison import PoisonDetector
from relay.delivery.shutdown import ShutdownSignal
from relay.outbox.claims import Claims


class Uploader(Protocol):
    """Amplitude's upload API, as a worker sees it."""

    async def upload(self, events: bytes) -> UploadReply:
        """Send one request with `events` (JSON objects, commas between them).

        Returns:
            How it ended; a failed exchange is a reply, not an error.
        """


class DeliveryMeter(Protocol):
    """Counts an app's uploads."""

    def uploaded(self, outcome: str, duration_s: float) -> None:
        """Count one upload by its outcome, as `name_outcome` names it, and its duration."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The numbers of delivery.

    Attributes:
        backoff: Waits after a failed upload.
        hold_s: Shortest pause of a throttled device or user.
        max_age_ms: Time after its first upload at which an event expires.
        timeout_s: Of one whole upload.
    """

    backoff: BackoffPolicy
    hold_s: float
    max_age_ms: int
    timeout_s: float


@dataclass(slots=True)
class SenderContext:
    """The parts that the senders of one app share; the policy may be replaced at any time."""

    app: str
    claims: Claims
    dispatcher: Dispatcher
    uploader: Uploader
    breaker: CircuitBreaker
    limits: LearnedLimits
    poison: PoisonDetector
    policy: DeliveryPolicy
    meter: DeliveryMeter
    clock: Clock
    rng: Random
    shutdown: ShutdownSignal
