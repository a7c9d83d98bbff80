"""Rules for uploads to Amplitude: what relay may never do, whatever happens."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import orjson

from relay.amplitude.verdicts import UploadReply
from relay.clock import Clock
from relay.sandbox.amplitude.ledger import device_key
from relay.sandbox.common.replies import JsonObject
from tests.simulation.app import App
from tests.simulation.project_record import name_of
from tests.simulation.scenario import DAY_S, Scenario

PATIENCE_S = 60.0
"""Delay a faulty disk may add between the check of an event's age and its upload."""

IN_FLIGHT_S = 0.1
"""An upload prepared before an answer arrived is sent within this, on a working disk."""

OVERHEAD_BYTES = 60
MAX_BATCH_BYTES = 4_000

QUOTA_HOLD_S = 3600.0


class UploadRules:
    """The rules for the uploads of one process for one app."""

    def __init__(
        self,
        scenario: Scenario,
        app: App,
        blame: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._scenario = scenario
        self._app = app
        self._blame = blame
        self._clock = clock
        self._in_flight: Counter[str] = Counter()
        self._resting: dict[str, float] = {}
        self._shut = (0.0, 0.0)
        self.in_flight = 0

    @contextmanager
    def sending(self, upload: Sequence[JsonObject], raw: bytes) -> Iterator[None]:
        """Check one upload from its start to its end as relay sees it."""
        keys = {device_key(event): None for event in upload}
        self._check_shape(upload, raw)
        self._check_times(upload)
        for key in keys:
            if self._in_flight[key]:
                self._blame(f"two uploads of {key} are in flight at once")
            self._in_flight[key] += 1
        self.in_flight += 1
        if self.in_flight > self._scenario.senders:
            self._blame(f"{self.in_flight} uploads are in flight, more than there are senders")
        try:
            yield
        finally:
            self.in_flight -= 1
            for key in keys:
                self._in_flight[key] -= 1

    def _check_shape(self, upload: Sequence[JsonObject], raw: bytes) -> None:
        known = [self._app.source.fates.get(name_of(event)) for event in upload]
        if raw != b",".join(fate.event.body if fate else b"?" for fate in known):
            self._blame("an upload holds other bytes than were accepted")
        size_bytes = OVERHEAD_BYTES + len(raw)
        if len(upload) > self._scenario.max_batch_events:
            self._blame(f"an upload holds {len(upload)} events")
        if size_bytes > MAX_BATCH_BYTES and len(upload) > 1:
            self._blame(f"an upload holds {size_bytes} bytes")
        if len(set(map(name_of, upload))) < len(upload):
            self._blame("an upload holds an event twice")

    def _check_times(self, upload: Sequence[JsonObject]) -> None:
        now_s = self._clock.monotonic_s()
        if self._shut[0] < now_s < self._shut[1]:
            self._blame("an upload comes before Amplitude asked for it")
        for event in upload:
            is_suspect = len(upload) == 1 and name_of(event) in self._app.project.record.offered
            if now_s < self._resting.get(device_key(event), 0.0) and not is_suspect:
                self._blame(f"{device_key(event)} was to rest")
            first_s = self._app.first_sent_s.setdefault(name_of(event), now_s)
            is_watched = (
                self._scenario.max_age_s < DAY_S and "clock" not in self._scenario.operators
            )
            if is_watched and now_s - first_s > self._scenario.max_age_s + PATIENCE_S:
                self._blame(f"{name_of(event)} is uploaded {now_s - first_s:.0f} s after its first")

    def answered(self, upload: Sequence[JsonObject], reply: UploadReply) -> None:
        """Learn from an answer which devices and users are on hold."""
        if reply.status not in {429, 503}:
            return
        now_s = self._clock.monotonic_s()
        said = orjson.loads(reply.body) if reply.body.startswith(b"{") else {}
        is_calm = not self._scenario.disk and "pause" not in self._scenario.operators
        if reply.retry_after_s and is_calm and "throttled_events" not in said:
            self._shut = (now_s + IN_FLIGHT_S, now_s + reply.retry_after_s)
        devices = {event["device_id"] for event in upload if "device_id" in event}
        for key, rest_s in (
            ("throttled_devices", self._scenario.hold_s),
            ("exceeded_daily_quota_devices", QUOTA_HOLD_S),
        ):
            for device in said.get(key, {}):
                if device in devices:
                    until_s = now_s + max(rest_s, reply.retry_after_s or 0.0) - 0.001
                    self._resting[device] = max(until_s, self._resting.get(device, 0.0))
