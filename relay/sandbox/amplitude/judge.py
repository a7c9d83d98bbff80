"""The verdict on one upload: what Amplitude answers, and which events it accepts.

Order: firewall, whole-request poison, checks of single events, muted devices, throttling.
A refused request stores nothing.
"""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from relay.sandbox.amplitude import answers
from relay.sandbox.amplitude.answers import Restrictions
from relay.sandbox.amplitude.conditions import Conditions, PoisonEffect
from relay.sandbox.amplitude.uploads import Upload
from relay.sandbox.amplitude.validation import ID_FIELDS, check_events
from relay.sandbox.common.replies import Answer, JsonObject, html_answer

THROTTLE_WINDOW_S: Final = 30
_POISON_ANSWERS: Final[dict[PoisonEffect, Answer]] = {
    "bare_400": answers.bad_request(answers.INVALID_VALUES),
    "html_400": html_answer(400, "400 Bad Request"),
    "waf_403": answers.forbidden(),
    "payload_413": answers.too_large(),
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """Amplitude accepts these events.

    Attributes:
        events: As they are stored (the Batch API removes short ids).
    """

    events: list[JsonObject]


class RateMeter:
    """Counts events per id over the last 30 seconds, in steps of one."""

    def __init__(self) -> None:
        self._steps: dict[str, deque[tuple[int, int]]] = {}

    def rate(self, name: str, extra_events: int, now_ms: int) -> float:
        """Return the average events per second if `extra_events` came now."""
        steps = self._steps.get(name, deque())
        oldest = now_ms // 1000 - THROTTLE_WINDOW_S
        while steps and steps[0][0] <= oldest:
            steps.popleft()
        return (sum(count for _, count in steps) + extra_events) / THROTTLE_WINDOW_S

    def add(self, name: str, events: int, now_ms: int) -> None:
        """Count accepted events of an id."""
        self._steps.setdefault(name, deque()).append((now_ms // 1000, events))


class Judge:
    """Judges uploads by the standing conditions.

    Attributes:
        conditions: What holds; may be replaced at any time.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Lift every condition and forget the rates."""
        self.conditions = Conditions()
        self._meter = RateMeter()

    def judge(self, upload: Upload, now_ms: int) -> Accepted | Answer:
        """Return the accepted events, or the answer that refuses them."""
        # A firewall or proxy answers before the API has looked at single events.
        poison = self.conditions.request_poison(upload.events)
        if poison is not None:
            return _POISON_ANSWERS[poison.effect]
        poisoned, names_all = self.conditions.poisoned_fields(upload.events)
        checked = check_events(upload, poisoned, names_all=names_all)
        if isinstance(checked, Answer):
            return checked
        restrictions = find_restrictions(upload, self.conditions, self._meter, now_ms)
        # A muted device is a permanent error and must not hide behind a 429.
        if restrictions.silenced_events:
            return answers.silenced(restrictions)
        if restrictions.throttled_events:
            return answers.throttled(restrictions, is_batch=upload.is_batch)
        if self.conditions.throttle_above_eps is not None:
            # Only what was accepted counts: a client that is refused slows down.
            for (field, identity), count in _count_ids(upload.events).items():
                self._meter.add(f"{field}:{identity}", count, now_ms)
        return Accepted(checked)


def find_restrictions(
    upload: Upload, conditions: Conditions, meter: RateMeter, now_ms: int
) -> Restrictions:
    """Return which ids of this request are throttled, over quota or silenced."""
    found = Restrictions(conditions.threshold(is_batch=upload.is_batch))
    fast = _too_fast(upload, conditions, meter, now_ms)
    devices = {**conditions.throttled_devices, **fast["device_id"]}
    users = {**conditions.throttled_users, **fast["user_id"]}
    for index, event in enumerate(upload.events):
        device, user = str(event.get("device_id", "")), str(event.get("user_id", ""))
        is_restricted = False
        for identity, limits, stated in (
            (device, devices, found.throttled_devices),
            (user, users, found.throttled_users),
            (device, conditions.quota_devices, found.quota_devices),
            (user, conditions.quota_users, found.quota_users),
        ):
            if identity in limits:
                stated[identity] = limits[identity]
                is_restricted = True
        if is_restricted:
            found.throttled_events.append(index)
        if device in conditions.silenced_devices:
            found.silenced_events.append(index)
            if device not in found.silenced_devices:
                found.silenced_devices.append(device)
    return found


def _too_fast(
    upload: Upload, conditions: Conditions, meter: RateMeter, now_ms: int
) -> dict[str, dict[str, int]]:
    """Return the ids of each field that would exceed the rate limit, with their rates."""
    found: dict[str, dict[str, int]] = {field: {} for field in ID_FIELDS}
    limit = conditions.throttle_above_eps
    if limit is None:
        return found
    for (field, identity), count in _count_ids(upload.events).items():
        rate = meter.rate(f"{field}:{identity}", count, now_ms)
        if rate > limit:
            found[field][identity] = max(1, round(rate))
    return found


def _count_ids(events: list[JsonObject]) -> Counter[tuple[str, str]]:
    """Return the number of events of each field and id."""
    return Counter(
        (field, identity)
        for event in events
        for field in ID_FIELDS
        if isinstance(identity := event.get(field), str)
    )
