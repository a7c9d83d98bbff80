"""What the event source knows of its events, to check relay's promises against.

An event is acknowledged by its first 2xx, from the moment the status line arrives.
"""

from collections import Counter
from dataclasses import dataclass, field

import orjson

from relay.sandbox.common.replies import JsonObject
from relay.sandbox.onesignal.requests import StreamRequest

_QUANTILES = (0.5, 0.95, 0.99, 1.0)


@dataclass(slots=True)
class Oracle:
    """What was sent, and how it was answered.

    Attributes:
        acknowledged: Deliverable event ids to the time of their first 2xx, UTC epoch
            milliseconds, in order of that time.
        attempted: Deliverable event ids that were sent at least once.
        hostile_acknowledged: 2xx for requests that relay can only quarantine.
        answers: Number of answers of each status, and of `timeout` and `connection`.
        receipts: Sums of the counts in relay's 200 bodies.
        latencies_ms: Of every answer.
        retries: Attempts after the first.
        failed_permanently: Requests given up after the last attempt.
        dropped: Requests refused in a way that is not retried.
        lost_while_off: Requests due while the stream was switched off.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    attempted: set[str] = field(default_factory=set)
    hostile_acknowledged: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    receipts: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    retries: int = 0
    failed_permanently: int = 0
    dropped: int = 0
    lost_while_off: int = 0

    @property
    def unacknowledged(self) -> set[str]:
        """Deliverable events that were sent and never acknowledged."""
        return self.attempted - self.acknowledged.keys()

    def attempt(self, request: StreamRequest) -> None:
        """Count a request that is about to be sent."""
        if request.is_deliverable:
            self.attempted.add(request.event_id)

    def acknowledge(self, request: StreamRequest, now_ms: int) -> None:
        """Count a 2xx."""
        if request.is_deliverable:
            self.acknowledged.setdefault(request.event_id, now_ms)
        else:
            self.hostile_acknowledged += 1

    def add_receipt(self, body: bytes) -> None:
        """Add the counts in the body of an acknowledgement, if it has any."""
        try:
            receipt = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        if isinstance(receipt, dict):
            self.receipts.update({k: v for k, v in receipt.items() if type(v) is int})

    def summary(self) -> JsonObject:
        """Return the counts and the latencies."""
        ordered = sorted(self.latencies_ms)
        return {
            "acknowledged": len(self.acknowledged),
            "attempted": len(self.attempted),
            "hostile_acknowledged": self.hostile_acknowledged,
            "answers": dict(self.answers),
            "receipts": dict(self.receipts),
            "retries": self.retries,
            "failed_permanently": self.failed_permanently,
            "dropped": self.dropped,
            "lost_while_off": self.lost_while_off,
            "latency_ms": {
                f"p{share * 100:g}": round(
                    ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1
                )
                for share in _QUANTILES
                if ordered
            },
        }
