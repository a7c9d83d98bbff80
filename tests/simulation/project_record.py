"""What one Amplitude project knows: what it counted, in which order, and what it refused."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from relay.sandbox.amplitude.ledger import device_key
from relay.sandbox.common.replies import JsonObject


def name_of(event: JsonObject) -> str:
    """Return an event's insert id."""
    return str(event["insert_id"])


class ProjectRecord:
    """The truth about one project.

    Attributes:
        counted: How often each insert id was counted as a new event.
        order: The insert ids of each device in the order they were counted.
        confirmed: Insert ids that an answer confirmed.
        offered: Every reason an answer gave for refusing an insert id.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._counted_at: dict[tuple[str, str], float] = {}
        self.counted: Counter[str] = Counter()
        self.order: defaultdict[str, list[str]] = defaultdict(list)
        self.confirmed: set[str] = set()
        self.offered: defaultdict[str, set[str]] = defaultdict(set)

    def take(self, events: Iterable[JsonObject], now_s: float) -> None:
        """Count new events; repetitions within Amplitude's memory do not count."""
        for event in events:
            key = (device_key(event), name_of(event))
            if now_s - self._counted_at.get(key, float("-inf")) < self._memory_s:
                continue
            self._counted_at[key] = now_s
            self.order[key[0]].append(key[1])
            self.counted[key[1]] += 1

    def confirm(self, events: Iterable[JsonObject]) -> None:
        """Record that an answer confirms these."""
        self.confirmed.update(map(name_of, events))

    def offer(self, reason: str, events: Sequence[JsonObject]) -> None:
        """Record that an answer refuses these for a reason."""
        for event in events:
            self.offered[name_of(event)].add(reason)
