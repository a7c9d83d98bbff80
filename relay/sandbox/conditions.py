"""Standing conditions of the Amplitude stand-in: what holds until somebody changes it.

Who is throttled, muted or over quota, which keys are revoked, which events are poison,
and which limits are lowered. Held as one validated model, so that HTTP and Python set
the same thing.
"""

from collections import deque
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PositiveInt

from relay.sandbox.answers import Holds, JsonObject
from relay.sandbox.uploads import Upload
from relay.sandbox.validation import Flaw

PoisonEffect = Literal["invalid_field", "bare_400", "html_400", "waf_403", "payload_413"]
THROTTLE_WINDOW_S: Final = 30
_HTTPAPI_EPS: Final = 30
_BATCH_EPS: Final = 1_000
_DAILY_QUOTA: Final = 500_000


class Poison(BaseModel):
    """Events Amplitude will not take, and how it says so.

    Attributes:
        insert_ids: Events with one of these are poison.
        property_name: Events with this key in `event_properties` are poison too.
        property_value: …but only with this value, unless None.
        effect: `invalid_field` names the event; the others refuse the whole request.
        field: The field `invalid_field` names.
        indices: Which poisoned events are named: as the endpoint does, first or all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    insert_ids: frozenset[str] = frozenset()
    property_name: str | None = None
    property_value: JsonValue = None
    effect: PoisonEffect = "invalid_field"
    field: str = "event_properties"
    indices: Literal["endpoint", "first", "all"] = "endpoint"

    def matches(self, event: JsonObject) -> bool:
        """Tell whether `event` is poison."""
        if event.get("insert_id") in self.insert_ids:
            return True
        properties = event.get("event_properties")
        if self.property_name is None or not isinstance(properties, dict):
            return False
        if self.property_name not in properties:
            return False
        return self.property_value is None or properties[self.property_name] == self.property_value


def _with_rate(value: object) -> object:
    """Take a bare list of ids for ids just above the usual limit."""
    if isinstance(value, list | tuple | set | frozenset):
        return dict.fromkeys(value, _HTTPAPI_EPS + 1)
    return value


def _with_quota(value: object) -> object:
    """Take a bare list of ids for ids just above the daily quota."""
    if isinstance(value, list | tuple | set | frozenset):
        return dict.fromkeys(value, _DAILY_QUOTA + 200)
    return value


IdRates = Annotated[dict[str, int], BeforeValidator(_with_rate)]
IdQuotas = Annotated[dict[str, int], BeforeValidator(_with_quota)]


class Conditions(BaseModel):
    """Everything that stands.

    Attributes:
        bad_keys: API keys that were revoked: `Invalid API key`.
        throttled_devices: Device id to the events per second that are told (429).
        throttled_users: User id likewise.
        quota_devices: Device ids over their daily quota, with the count told (429).
        quota_users: User ids likewise.
        silenced_devices: Device ids Amplitude has muted (400).
        poisons: Events that will never be taken.
        eps_threshold: The limit that is told; None = 30, and 1,000 on the Batch API.
        throttle_above_eps: Throttle any id whose 30 s average is above; None = never.
        max_body_bytes: Lowered limit of a request; None = as documented.
        max_events: Lowered limit of a request; None = as documented.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    bad_keys: set[str] = Field(default_factory=set)
    throttled_devices: IdRates = Field(default_factory=dict)
    throttled_users: IdRates = Field(default_factory=dict)
    quota_devices: IdQuotas = Field(default_factory=dict)
    quota_users: IdQuotas = Field(default_factory=dict)
    silenced_devices: set[str] = Field(default_factory=set)
    poisons: list[Poison] = Field(default_factory=list)
    eps_threshold: PositiveInt | None = None
    throttle_above_eps: Annotated[float, Field(gt=0)] | None = None
    max_body_bytes: PositiveInt | None = None
    max_events: PositiveInt | None = None

    def threshold(self, *, is_batch: bool) -> int:
        """Return the events per second that are told as the limit."""
        return self.eps_threshold or (_BATCH_EPS if is_batch else _HTTPAPI_EPS)

    def request_poison(self, events: list[JsonObject]) -> Poison | None:
        """Return the first poison that refuses a whole request with these events."""
        for poison in self.poisons:
            if poison.effect != "invalid_field" and any(map(poison.matches, events)):
                return poison
        return None

    def poisoned_fields(self, events: list[JsonObject]) -> tuple[list[Flaw], bool | None]:
        """Return the fields poison makes invalid, and whether all are to be named."""
        flaws: list[Flaw] = []
        names_all: bool | None = None
        for poison in self.poisons:
            if poison.effect != "invalid_field":
                continue
            found = [
                Flaw(i, poison.field) for i, event in enumerate(events) if poison.matches(event)
            ]
            flaws.extend(found)
            if found and poison.indices != "endpoint":
                names_all = poison.indices == "all"
        return flaws, names_all


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
        """Note that `events` of an id were taken."""
        self._steps.setdefault(name, deque()).append((now_ms // 1000, events))


def find_holds(upload: Upload, conditions: Conditions, meter: RateMeter, now_ms: int) -> Holds:
    """Return who of this request is throttled, over quota or silenced."""
    holds = Holds(conditions.threshold(is_batch=upload.is_batch))
    fast_devices, fast_users = _too_fast(upload, conditions, meter, now_ms)
    devices = {**conditions.throttled_devices, **fast_devices}
    users = {**conditions.throttled_users, **fast_users}
    for index, event in enumerate(upload.events):
        device, user = str(event.get("device_id", "")), str(event.get("user_id", ""))
        held = False
        for identity, limits, told in (
            (device, devices, holds.throttled_devices),
            (user, users, holds.throttled_users),
            (device, conditions.quota_devices, holds.quota_devices),
            (user, conditions.quota_users, holds.quota_users),
        ):
            if identity in limits:
                told[identity] = limits[identity]
                held = True
        if held:
            holds.throttled_events.append(index)
        if device in conditions.silenced_devices:
            holds.silenced_events.append(index)
            if device not in holds.silenced_devices:
                holds.silenced_devices.append(device)
    return holds


def _too_fast(
    upload: Upload, conditions: Conditions, meter: RateMeter, now_ms: int
) -> tuple[dict[str, int], dict[str, int]]:
    limit = conditions.throttle_above_eps
    if limit is None:
        return {}, {}
    found: list[dict[str, int]] = []
    for field in ("device_id", "user_id"):
        rates = {
            identity: meter.rate(f"{field}:{identity}", count, now_ms)
            for identity, count in count_ids(upload.events, field).items()
        }
        found.append({name: max(1, round(rate)) for name, rate in rates.items() if rate > limit})
    return found[0], found[1]


def count_ids(events: list[JsonObject], field: str) -> dict[str, int]:
    """Return how many of `events` each id of `field` has."""
    counts: dict[str, int] = {}
    for event in events:
        identity = event.get(field)
        if isinstance(identity, str):
            counts[identity] = counts.get(identity, 0) + 1
    return counts
