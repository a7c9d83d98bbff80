"""Anomalies of events on their way."""

from collections import Counter
from random import Random

import orjson

from relay.sandbox.onesignal.requests import Anomalies, StreamRequest, make_requests
from relay.sandbox.onesignal.templates import Renderer, Rendering
from relay.sandbox.onesignal.traffic import RawEvent, Traffic, TrafficOptions


def raw_events(count: int = 200) -> list[RawEvent]:
    """Return `count` events."""
    return Traffic(TrafficOptions("app"), Random(1)).take(count)


def requests(
    anomalies: Anomalies | None = None, rendering: Rendering | None = None
) -> list[StreamRequest]:
    """Return the requests of 200 events."""
    renderer = Renderer(rendering or Rendering())
    return list(make_requests(raw_events(), renderer, anomalies or Anomalies(), Random(2)))


def test_without_anomalies_order_and_number_are_kept() -> None:
    """One deliverable request per event."""
    packed = requests()
    assert [p.event_id for p in packed] == [event["event"]["id"] for event in raw_events()]
    assert all(p.is_deliverable for p in packed)


def test_duplicates_are_the_same_bytes() -> None:
    """A repetition is the same request again."""
    packed = requests(Anomalies(duplicate_rate=1))
    assert set(Counter(p.event_id for p in packed).values()) == {2}
    assert len(set(packed)) == 200


def test_shuffle_keeps_all() -> None:
    """In another order, but complete."""
    mixed = requests(Anomalies(shuffle=50))
    assert mixed != requests()
    assert sorted(p.event_id for p in mixed) == sorted(p.event_id for p in requests())


def test_late_events_keep_only_the_message_id() -> None:
    """OneSignal forgets messages after thirty days."""
    message = orjson.loads(requests(Anomalies(late_rate=1))[0].body)["message"]
    assert message.pop("id")
    assert set(message.values()) == {""}


def test_broken_foreign_and_unknown_are_not_deliverable() -> None:
    """Relay can only quarantine these."""
    for anomalies in (
        Anomalies(broken_rate=1),
        Anomalies(foreign_rate=1),
        Anomalies(unknown_rate=1),
    ):
        assert not any(p.is_deliverable for p in requests(anomalies))


def test_bodies_broken_by_quotes_are_not_deliverable() -> None:
    """Without escaping, a quote in a name breaks the body, and the request is marked."""
    packed = requests(rendering=Rendering(escapes=False))
    assert {p.is_deliverable for p in packed} == {True, False}
