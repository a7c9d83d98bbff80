"""Standing conditions of Amplitude's ingest: what holds until somebody changes it.

Who is throttled, muted or over quota, which keys are revoked, which events are poison,
and which limits are lowered. One validated model, so that HTTP and Python set the same.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PositiveInt

from relay.sandbox.amplitude.validation import Flaw
from relay.sandbox.common.replies import JsonObject

PoisonEffect = Literal["invalid_field", "bare_400", "html_400", "waf_403", "payload_413"]
_HTTPAPI_EPS: Final = 30
_BATCH_EPS: Final = 1_000
_DAILY_QUOTA: Final = 500_000


class Poison(BaseModel):
    """Events that Amplitude never accepts, and how it says so.

    Attributes:
        insert_ids: Events with one of these are poison.
        property_name: Events with this key in `event_properties` are poison too.
        property_value: …but only with this value, unless None.
        effect: `invalid_field` names the event; the others refuse the whole request.
        field: The field that `invalid_field` names.
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


def _just_above(limit: int) -> BeforeValidator:
    """Return what reads a bare list of ids as ids just above `limit`."""

    def read(value: object) -> object:
        if isinstance(value, list | tuple | set | frozenset):
            return dict.fromkeys(value, limit)
        return value

    return BeforeValidator(read)


IdRates = Annotated[dict[str, int], _just_above(_HTTPAPI_EPS + 1)]
IdQuotas = Annotated[dict[str, int], _just_above(_DAILY_QUOTA + 200)]


class Conditions(BaseModel):
    """All standing conditions.

    Attributes:
        bad_keys: API keys that were revoked: `Invalid API key`.
        throttled_devices: Device id to the stated events per second (429).
        throttled_users: User id likewise.
        quota_devices: Device ids over their daily quota, with the stated count (429).
        quota_users: User ids likewise.
        silenced_devices: Device ids that Amplitude has muted (400).
        poisons: Events that are never accepted.
        eps_threshold: The stated limit; None = 30, and 1,000 on the Batch API.
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
        """Return the stated limit in events per second."""
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
