"""What Amplitude would hold, and how it got there.

An event is held once per (API key, device or user, insert_id) within seven days of its
receipt, in order of arrival. Examples (requests, violations) are bounded in number;
counts are not.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import anyio
import orjson

from relay.sandbox.amplitude.uploads import RawUpload, Upload
from relay.sandbox.common.replies import JsonObject

DEDUP_WINDOW_MS: Final = 7 * 24 * 3_600_000
REQUESTS_KEPT: Final = 2_000
VIOLATIONS_KEPT: Final = 1_000
_FORBIDDEN_KEYS: Final = ("ip", "event_id", "client_upload_time")


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that Amplitude tolerates and relay promises never to do.

    Attributes:
        rule: The broken rule: a key that must not be sent, `content_type`, or
            `changed_retry` (a repeat whose bytes differ from the first attempt).
        insert_id: Of the event; None if the request as a whole broke the rule.
    """

    rule: str
    insert_id: str | None


@dataclass(slots=True)
class RequestLine:
    """One request of the log; complete once it is answered.

    Attributes:
        path: Path of the request.
        wire_bytes: Body bytes as sent.
        plain_bytes: Body bytes after decompression.
        is_gzip: Whether the body was compressed.
        api_key: The key it named; empty if it could not be read.
        events: Number of events in it.
        at: Time of the answer, UTC epoch milliseconds.
        status: HTTP status answered; 0 = the connection was broken instead.
        fault: Name of the fault that shaped the answer, if one did.
        is_stored: Whether the events entered the ledger.
    """

    path: str
    wire_bytes: int
    plain_bytes: int
    is_gzip: bool
    api_key: str = ""
    events: int = 0
    at: int = 0
    status: int = 0
    fault: str | None = None
    is_stored: bool = False


@dataclass(slots=True)
class Account:
    """What the project of one API key holds.

    Attributes:
        insert_ids: Insert_id of every distinct event in order of arrival (empty text for
            an event without one).
        events: The events themselves, in the same order; empty when only ids are kept.
        device_order: Device (or `u:` + user) to its insert_ids in order of arrival.
        uploads: Requests whose events were stored.
        duplicates: Events recognised as repeats.
        max_batch_events: Most events in one stored request.
        max_batch_bytes: Largest stored request after decompression.
    """

    insert_ids: list[str] = field(default_factory=list)
    events: list[JsonObject] = field(default_factory=list)
    device_order: dict[str, list[str]] = field(default_factory=dict)
    uploads: int = 0
    duplicates: int = 0
    max_batch_events: int = 0
    max_batch_bytes: int = 0
    received_at: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)
    digests: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)

    def summary(self) -> JsonObject:
        """Return the counts."""
        return {
            "events": len(self.insert_ids),
            "distinct_insert_ids": len(set(self.insert_ids)),
            "devices": len(self.device_order),
            "uploads": self.uploads,
            "duplicates": self.duplicates,
            "max_batch_events": self.max_batch_events,
            "max_batch_bytes": self.max_batch_bytes,
        }


def dedup_key(event: JsonObject) -> tuple[str, str] | None:
    """Return what Amplitude deduplicates by; None without an insert_id."""
    insert_id = event.get("insert_id")
    return (device_key(event), insert_id) if isinstance(insert_id, str) and insert_id else None


def device_key(event: JsonObject) -> str:
    """Return the device, or `u:` + user if there is none."""
    device_id = event.get("device_id")
    return device_id if isinstance(device_id, str) else f"u:{event.get('user_id')}"


class Ledger:
    """The events and requests of all projects.

    Attributes:
        requests: The last requests, oldest first.
        violations: The first violations.
        violation_counts: How often each rule was broken.
        total_requests: Requests ever seen.
    """

    def __init__(self, *, keep_events: bool = True) -> None:
        self._keep_events = keep_events
        self._changed = anyio.Event()
        self._accounts: dict[str, Account] = {}
        self.requests: deque[RequestLine] = deque(maxlen=REQUESTS_KEPT)
        self.violations: list[Violation] = []
        self.violation_counts: Counter[str] = Counter()
        self.total_requests = 0

    def account(self, api_key: str) -> Account:
        """Return the account of a key, a new one if it has none; it is updated in place."""
        return self._accounts.setdefault(api_key, Account())

    @property
    def total_events(self) -> int:
        """Distinct events over all keys."""
        return sum(len(account.insert_ids) for account in self._accounts.values())

    def observe(self, upload: Upload, raw: RawUpload) -> None:
        """Check an attempt, stored or not, for what relay promises never to do."""
        if raw.content_type != "application/json":
            self._violated("content_type", None)
        for name in _FORBIDDEN_KEYS:
            if name in upload.top_level_keys:
                self._violated(name, None)
        # A refused attempt counts too: its bytes must be those of every later one.
        digests = self.account(upload.api_key).digests
        for event in upload.events:
            insert_id = str(event.get("insert_id", ""))
            for name in _FORBIDDEN_KEYS:
                if name in event:
                    self._violated(name, insert_id)
            key = dedup_key(event)
            # A digest, as the bytes of a million events would not fit into memory.
            digest = hash(orjson.dumps(event))
            if key is not None and digests.setdefault(key, digest) != digest:
                self._violated("changed_retry", insert_id)

    def store(
        self, upload: Upload, events: Sequence[JsonObject], raw: RawUpload, now_ms: int
    ) -> None:
        """Store the events of one request; repeats are counted and ignored."""
        account = self.account(upload.api_key)
        account.uploads += 1
        account.max_batch_events = max(account.max_batch_events, len(events))
        account.max_batch_bytes = max(account.max_batch_bytes, raw.plain_bytes)
        for event in events:
            self._store_event(account, event, now_ms)

    def _store_event(self, account: Account, event: JsonObject, now_ms: int) -> None:
        key = dedup_key(event)
        if key is not None:
            received_at = account.received_at.get(key)
            # Older repeats are events of their own: Amplitude has forgotten the insert_id.
            if received_at is not None and now_ms - received_at < DEDUP_WINDOW_MS:
                account.duplicates += 1
                return
            account.received_at[key] = now_ms
        insert_id = key[1] if key is not None else ""
        account.insert_ids.append(insert_id)
        account.device_order.setdefault(device_key(event), []).append(insert_id)
        if self._keep_events:
            account.events.append(event)

    def _violated(self, rule: str, insert_id: str | None) -> None:
        self.violation_counts[rule] += 1
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(Violation(rule, insert_id))

    def log(self, line: RequestLine) -> None:
        """Add an answered request, and wake those who wait for the ledger to change."""
        self.requests.append(line)
        self.total_requests += 1
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait_until(self, condition: Callable[["Ledger"], bool]) -> None:
        """Return once `condition` holds; it is checked again after every request."""
        while not condition(self):
            await self._changed.wait()

    async def wait_for_events(self, count: int) -> None:
        """Return once `count` distinct events are held over all keys."""
        await self.wait_until(lambda ledger: ledger.total_events >= count)

    def reset(self) -> None:
        """Forget everything."""
        self._accounts.clear()
        self.requests.clear()
        self.violations.clear()
        self.violation_counts.clear()
        self.total_requests = 0

    def summary(self) -> JsonObject:
        """Return counts per key, violations and the last requests."""
        return {
            "accounts": {
                key: account.summary()
                for key, account in self._accounts.items()
                if account.digests or account.uploads
            },
            "total_events": self.total_events,
            "total_requests": self.total_requests,
            "violations": dict(self.violation_counts),
            "last_requests": [asdict(line) for line in list(self.requests)[-20:]],
        }
