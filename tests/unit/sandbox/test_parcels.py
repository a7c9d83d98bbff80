"""What goes wrong with events on their way."""

from collections import Counter
from random import Random

import orjson

from relay.sandbox.parcels import Mischief, Parcel, pack
from relay.sandbox.templates import Renderer, Rendering
from relay.sandbox.traffic import RawEvent, Scenery, Traffic


def events(count: int = 200) -> list[RawEvent]:
    """Return so many events."""
    return Traffic(Scenery("app"), Random(1)).take(count)


def parcels(mischief: Mischief | None = None, rendering: Rendering | None = None) -> list[Parcel]:
    """Return the parcels of 200 events."""
    renderer = Renderer(rendering or Rendering())
    return list(pack(events(), renderer, mischief or Mischief(), Random(2)))


def test_without_mischief_order_and_number_are_kept() -> None:
    """One deliverable parcel per event."""
    packed = parcels()
    assert [p.event_id for p in packed] == [event["event"]["id"] for event in events()]
    assert all(p.is_deliverable for p in packed)


def test_duplicates_are_the_same_bytes() -> None:
    """A repeat is the same request again."""
    packed = parcels(Mischief(duplicate_rate=1))
    assert set(Counter(p.event_id for p in packed).values()) == {2}
    assert len(set(packed)) == 200


def test_shuffle_keeps_all() -> None:
    """Mixed, but complete."""
    mixed = parcels(Mischief(shuffle=50))
    assert mixed != parcels()
    assert sorted(p.event_id for p in mixed) == sorted(p.event_id for p in parcels())


def test_late_events_keep_only_the_message_id() -> None:
    """OneSignal forgets messages after thirty days."""
    message = orjson.loads(parcels(Mischief(late_rate=1))[0].body)["message"]
    assert message.pop("id")
    assert set(message.values()) == {""}


def test_broken_foreign_and_unknown_are_not_deliverable() -> None:
    """Relay can only put these into quarantine."""
    for mischief in (Mischief(broken_rate=1), Mischief(foreign_rate=1), Mischief(unknown_rate=1)):
        assert not any(p.is_deliverable for p in parcels(mischief))


def test_bodies_broken_by_quotes_are_not_deliverable() -> None:
    """Without escaping, a quote in a name breaks the body, and the parcel knows."""
    packed = parcels(rendering=Rendering(escapes=False))
    assert {p.is_deliverable for p in packed} == {True, False}
