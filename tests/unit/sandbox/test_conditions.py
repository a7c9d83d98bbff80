"""Standing conditions and poison."""

import pytest
from pydantic import ValidationError

from relay.sandbox.amplitude.conditions import Conditions, Poison
from relay.sandbox.amplitude.judge import RateMeter, find_restrictions
from relay.sandbox.amplitude.uploads import Upload
from relay.sandbox.common.replies import JsonObject


def test_bare_ids_get_a_plausible_rate() -> None:
    """A list of ids is enough."""
    conditions = Conditions.model_validate(
        {"throttled_users": ["user-1"], "quota_devices": ["device-1"]}
    )
    assert conditions.throttled_users == {"user-1": 31}
    assert conditions.quota_devices == {"device-1": 500_200}


def test_nonsense_is_rejected_when_it_is_set() -> None:
    """A condition is validated when it is set."""
    conditions = Conditions()
    with pytest.raises(ValidationError):
        conditions.max_events = 0


@pytest.mark.parametrize(
    ("poison", "event", "expected"),
    [
        (Poison(insert_ids=frozenset({"i"})), {"insert_id": "i"}, True),
        (Poison(insert_ids=frozenset({"i"})), {"insert_id": "j"}, False),
        (Poison(property_name="p"), {"event_properties": {"p": None}}, True),
        (Poison(property_name="p"), {"event_properties": {"q": 1}}, False),
        (Poison(property_name="p"), {"event_properties": "text"}, False),
        (Poison(property_name="p", property_value=1), {"event_properties": {"p": 1}}, True),
        (Poison(property_name="p", property_value=1), {"event_properties": {"p": 2}}, False),
        (Poison(), {}, False),
    ],
)
def test_poison_is_recognised(poison: Poison, event: JsonObject, *, expected: bool) -> None:
    """By insert_id, or by a property and its value."""
    assert poison.matches(event) is expected


def test_each_silenced_device_is_named_once() -> None:
    """Although each of its events is affected."""
    events: list[JsonObject] = [{"device_id": "d"}, {"device_id": "e"}, {"device_id": "d"}]
    upload = Upload("/batch", "k", events, 5, frozenset())
    restrictions = find_restrictions(upload, Conditions(silenced_devices={"d"}), RateMeter(), 0)
    assert (restrictions.silenced_devices, restrictions.silenced_events) == (["d"], [0, 2])


def test_the_meter_forgets_after_thirty_seconds() -> None:
    """The average covers the last thirty seconds."""
    meter = RateMeter()
    meter.add("id", 30, 0)
    assert meter.rate("id", 30, 29_999) == 2.0
    assert meter.rate("id", 30, 30_000) == 1.0
