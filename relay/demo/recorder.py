"""What OneSignal's stand-in records of one app's deliveries, in the order of the events.

The order is kept in steps, not milliseconds: an event that was answered at an earlier step
than another was first sent has certainly been accepted before it.
"""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from relay.sandbox.onesignal.oracle import Oracle
from relay.sandbox.onesignal.requests import StreamRequest


@dataclass
class DeliveryRecorder(Oracle):
    """Deliveries of all streams of an app.

    Attributes:
        wanted: Ids of events whose kind relay sends.
        first_sent: Event id to the step of its first attempt.
        first_answered: Event id to the step of its first 2xx.
        promised: Ids of events relay must bring to Amplitude: understood, wanted, answered.
        unreadable_sent: Bodies that cannot be understood, with the number of attempts.
        unreadable_answered: The same, with the number of 2xx answers.
    """

    wanted: AbstractSet[str] = frozenset()
    first_sent: dict[str, int] = field(default_factory=dict)
    first_answered: dict[str, int] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    unreadable_sent: Counter[bytes] = field(default_factory=Counter)
    unreadable_answered: Counter[bytes] = field(default_factory=Counter)
    _step: int = 0

    @property
    def sent(self) -> set[str]:
        """Ids of understood, wanted events that were sent at least once."""
        return self.attempted & self.wanted

    @property
    def ok_answers(self) -> int:
        """The number of answers with 200."""
        return self.answers["200"]

    @property
    def requests(self) -> int:
        """The number of requests begun."""
        return self._step - len(self.first_answered)

    @property
    def open_requests(self) -> int:
        """The number of requests begun and not ended."""
        return self.requests - self.answers.total()

    @property
    def unanswered(self) -> int:
        """Requests that ended without an answer; relay may have stored their events anyway."""
        return self.answers["timeout"] + self.answers["connection"]

    def attempt(self, request: StreamRequest) -> None:
        """Record that a request is about to be sent."""
        super().attempt(request)
        self._step += 1
        self.first_sent.setdefault(request.event_id, self._step)
        if not request.is_deliverable:
            self.unreadable_sent[request.body] += 1

    def acknowledge(self, request: StreamRequest, now_ms: int) -> None:
        """Record a 2xx."""
        super().acknowledge(request, now_ms)
        if not request.is_deliverable:
            self.unreadable_answered[request.body] += 1
            return
        if request.event_id not in self.first_answered:
            self._step += 1
            self.first_answered[request.event_id] = self._step
        if request.event_id in self.wanted:
            self.promised.add(request.event_id)
