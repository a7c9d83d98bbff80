"""What one app's senders share."""

from dataclasses import dataclass
from random import Random
from typing import Protocol

from relay.amplitude.verdicts import UploadReply
from relay.clock import Clock
from relay.delivery.backoff import BackoffPolicy
from relay.delivery.batching import LearnedLimits
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.gate import Gate
from relay.delivery.refusals import Refusals
from relay.delivery.stop import Stop
from relay.outbox.claims import Claims


class Uploader(Protocol):
    """What a sender needs of Amplitude's API."""

    async def upload(self, events: bytes) -> UploadReply:
        """Send one request and return how it ended."""


class DeliveryMeter(Protocol):
    """Who counts uploads."""

    def uploaded(self, outcome: str, duration_s: float) -> None:
        """Note one upload, its outcome in a word, and how long it took."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How delivery behaves.

    Attributes:
        backoff: When a failed upload goes again.
        hold_s: How long a throttled device or user rests.
        max_age_ms: Since its first upload, after which an event is not sent again.
        timeout_s: Of one upload, whole.
    """

    backoff: BackoffPolicy
    hold_s: float
    max_age_ms: int
    timeout_s: float


@dataclass(slots=True)
class Line:
    """One app's delivery, shared by its senders; its policy may be replaced at any time."""

    app: str
    claims: Claims
    dispatcher: Dispatcher
    uploader: Uploader
    gate: Gate
    limits: LearnedLimits
    refusals: Refusals
    policy: DeliveryPolicy
    meter: DeliveryMeter
    clock: Clock
    rng: Random
    stop: Stop
