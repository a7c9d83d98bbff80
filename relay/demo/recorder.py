"""Records one app's deliveries on OneSignal's side, in the order in which things happened.

The order is kept by a logical clock, not in milliseconds: an event that was answered at an
earlier tick than another was first sent has certainly been accepted before it.
"""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from relay.sandbox.onesignal.oracle import Oracle
from relay.sandbox.onesignal.requests import StreamRequest


@dataclass
class DeliveryRecorder(Oracle):
    """Deliveries of all streams of an app."""

    wanted: AbstractSet[str] = frozenset()  # ids of events whose kind relay sends
    first_sent: dict[str, int] = field(default_factory=dict)  # id to tick of the first attempt
    first_answered: dict[str, int] = field(default_factory=dict)  # id to tick of the first 2xx
    promised: set[str] = field(default_factory=set)  # understood, wanted and answered 2xx
    unreadable_sent: Counter[bytes] = field(default_factory=Counter)  # bodies, by attempts
    unreadable_answered: Counter[bytes] = field(default_factory=Counter)  # bodies, by 2xx
    _tick: int = 0

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
        return self._tick - len(self.first_answered)

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
        self._tick += 1
        self.first_sent.setdefault(request.event_id, self._tick)
        if not request.is_deliverable:
            self.unreadable_sent[request.body] += 1

    def acknowledge(self, request: StreamRequest, now_ms: int) -> None:
        """Record a 2xx."""
        super().acknowledge(request, now_ms)
        if not request.is_deliverable:
            self.unreadable_answered[request.body] += 1
            return
        if request.event_id not in self.first_answered:
            self._tick += 1
            self.first_answered[request.event_id] = self._tick
        if request.event_id in self.wanted:
            self.promised.add(request.event_id)
