"""What OneSignal's stand-in knows of one app's events, in the order in which it learnt it.

The order is told in steps rather than in milliseconds: an event that was answered at an
earlier step than another was first sent has certainly been accepted before it.
"""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from relay.sandbox.onesignal.oracle import Oracle
from relay.sandbox.onesignal.requests import StreamRequest


@dataclass
class Journal(Oracle):
    """The book of all of an app's streams.

    Attributes:
        wanted: Ids of events whose kind relay sends.
        first_sent: Event id to the step of its first attempt.
        answered: Event id to the step of its first 2xx.
        promised: Ids of events relay must bring to Amplitude: understood, wanted, answered.
        hostile_sent: Bodies that cannot be understood, by how often they were sent.
        hostile_answered: The same, by how often they were answered with 2xx.
    """

    wanted: AbstractSet[str] = frozenset()
    first_sent: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    hostile_sent: Counter[bytes] = field(default_factory=Counter)
    hostile_answered: Counter[bytes] = field(default_factory=Counter)
    _step: int = 0

    @property
    def sent(self) -> set[str]:
        """Ids of understood, wanted events that were sent at least once."""
        return self.attempted & self.wanted

    @property
    def answers_ok(self) -> int:
        """How often 200 was answered."""
        return self.answers["200"]

    @property
    def attempts(self) -> int:
        """Requests begun."""
        return self._step - len(self.answered)

    @property
    def open_requests(self) -> int:
        """Requests begun and not ended."""
        return self.attempts - self.answers.total()

    @property
    def unanswered(self) -> int:
        """Requests that ended without an answer; each may have been stored nevertheless."""
        return self.answers["timeout"] + self.answers["connection"]

    def attempt(self, request: StreamRequest) -> None:
        """Note that a request is about to be sent."""
        super().attempt(request)
        self._step += 1
        self.first_sent.setdefault(request.event_id, self._step)
        if not request.is_deliverable:
            self.hostile_sent[request.body] += 1

    def acknowledge(self, request: StreamRequest, now_ms: int) -> None:
        """Note a 2xx."""
        super().acknowledge(request, now_ms)
        if not request.is_deliverable:
            self.hostile_answered[request.body] += 1
            return
        if request.event_id not in self.answered:
            self._step += 1
            self.answered[request.event_id] = self._step
        if request.event_id in self.wanted:
            self.promised.add(request.event_id)
