"""What an upload's answer can mean for its events: the vocabulary of `judge`.

Amplitude rejects a request whole unless it answers 200, so every verdict but `Settled` concerns
all of its events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never


class Identified(Protocol):
    """An event, as far as an answer may name it."""

    @property
    def device_id(self) -> str | None:
        """Its device, None if it has none."""

    @property
    def user_id(self) -> str | None:
        """Its user, None if anonymous."""


@dataclass(frozen=True, slots=True)
class UploadReply:
    """How one upload ended.

    Attributes:
        status: HTTP status, None if no whole answer came.
        body: The answer's bytes, decompressed.
        retry_after_s: What `Retry-After` asks for, None if it was not sent.
        failure: Why no answer came (`timeout`, `connection reset`, …), else empty.
    """

    status: int | None
    body: bytes = b""
    retry_after_s: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Amplitude has the event."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Nothing is wrong with the event; it may go again at once, without the named ones."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The event's device or user must wait.

    Attributes:
        devices: Device ids to hold.
        users: User ids to hold.
        wait_s: Shortest hold; None means the configured one.
        reason: `throttled` or `quota`.
    """

    devices: frozenset[str]
    users: frozenset[str]
    wait_s: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Amplitude will never take the event.

    Attributes:
        reason: A stable word.
        detail: Amplitude's error text, without any key.
    """

    reason: str
    detail: str


Outcome = Delivered | Requeue | Hold | Dead


@dataclass(frozen=True, slots=True)
class Settled:
    """Each event has its own outcome.

    Attributes:
        outcomes: One for each event, in order.
        is_partial: Whether a field named one event alone: HTTP V2 names only the first bad
            event of a field, so those to requeue may hold more of them.
    """

    outcomes: Sequence[Outcome]
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """The answer names no event: halve until it does; an event alone is dead.

    Attributes:
        reason: Of its dead letter.
        detail: Amplitude's error text.
        is_size: Whether smaller uploads are a remedy in themselves, to be remembered.
    """

    reason: str
    detail: str
    is_size: bool = False


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The content of an event is refused, or everything this app sends.

    Attributes:
        reason: Of the dead letter, if one event alone is refused.
        detail: The error text.
        blames_request: Whether the answer speaks of the request rather than of the sender.
    """

    reason: str
    detail: str
    blames_request: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Nothing was accepted, or nothing is known: upload the same again later.

    Attributes:
        reason: For the operator.
        retry_after_s: What Amplitude asked for, None if nothing.
    """

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Halt:
    """The app's key is refused; its events wait, and the app is probed rarely.

    Attributes:
        reason: For the operator.
    """

    reason: str


Verdict = Settled | Split | Forbidden | Retry | Halt


def name_outcome(verdict: Verdict) -> str:
    """Return the word for a verdict in logs and metrics."""
    match verdict:
        case Settled(outcomes=outcomes):
            whole = all(isinstance(outcome, Delivered) for outcome in outcomes)
            return "delivered" if whole else "partial"
        case Split():
            return "split"
        case Forbidden():
            return "refused"
        case Retry():
            return "retry"
        case Halt():
            return "halted"
        case _:
            assert_never(verdict)
