"""One app seen from outside: what OneSignal sends, Amplitude knows and operators asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.outbox.counters import Counts
from relay.outbox.dedup import dedup_key
from tests.simulation.amplitude import Project
from tests.simulation.source import Source


@dataclass
class App:
    """One app seen from outside.

    Attributes:
        source: What OneSignal knows.
        project: What Amplitude knows.
        discardable: Insert ids that an operator asked to discard.
        doubtful: Insert ids that an operator retries after relay expired them.
        died: Insert ids that were ever dead letters.
        first_sent_s: First upload of each insert id since it was accepted or retried.
    """

    source: Source
    project: Project
    discardable: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    died: set[str] = field(default_factory=set)
    first_sent_s: dict[str, float] = field(default_factory=dict)
    _last: Counts = field(default_factory=Counts)
    _names: dict[bytes, str] = field(default_factory=dict)

    def name(self, no: int, key: bytes) -> str:
        """Return the insert id that a key in the tables stands for."""
        if key not in self._names:
            self._names |= {dedup_key(no, name): name for name in self.source.fates}
        return self._names[key]

    def retry(self, name: str, *, is_expired: bool) -> None:
        """Record that an operator retries a dead letter."""
        self.died.add(name)
        self.first_sent_s.pop(name, None)
        if is_expired:
            self.doubtful.add(name)

    def discard(self, name: str) -> None:
        """Record that an operator discards an event."""
        self.died.add(name)
        self.discardable.add(name)

    def discard_user(self, user: str) -> None:
        """Record that an operator erases a user."""
        fates = self.source.fates
        self.discardable |= {name for name, fate in fates.items() if fate.event.user_id == user}

    def step(self, counts: Counts) -> Iterator[str]:
        """Yield which counts fell since the last call."""
        for name in ("accepted", "delivered", "discarded", "duplicate"):
            before, now = getattr(self._last, name), getattr(counts, name)
            if now < before:
                yield f"{name} fell from {before} to {now}"
        self._last = counts
