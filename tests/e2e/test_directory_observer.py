"""What passing events change in the directory, however often they repeat."""

from pathlib import Path

import pytest

from tests.support.cohort_relays import World, world
from tests.support.relays import event

SUBSCRIPTION = "SELECT is_subscribed FROM subscriptions"
NOW = "2030-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _hasty_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.directory.observer.FLUSH_S", 0.02)


async def sent(it: World, number: int, kind: str = "message.push.sent") -> None:
    """Post an event of one subscription."""
    assert (await it.relay.post(subscription_event(number, kind, NOW))).json["accepted"] == 1


def subscription_event(number: int, kind: str, at: str, user: str = "anna") -> object:
    """Return an event of one subscription."""
    return event(number, kind=kind, subscription_id="s-1", external_id=user, datetime=at)


async def test_a_confirmed_flag_counts_again_after_a_put(tmp_path: Path) -> None:
    """A repeated event is news once an app has said otherwise."""
    async with world(tmp_path) as it:
        await sent(it, 1)
        await it.until(SUBSCRIPTION, lambda rows: rows == [(1,)])
        await sent(it, 2)
        await sent(it, 3)
        word = {"subscriptions": [{"id": "s-1", "type": "iOSPush", "subscribed": False}]}
        assert (await it.relay.api("PUT", "/directory/shop/anna", word)).status == 204
        await it.until(SUBSCRIPTION, lambda rows: rows == [(0,)])
        await sent(it, 4)
        await it.until(SUBSCRIPTION, lambda rows: rows == [(1,)])


async def test_a_flag_follows_the_events_back_and_forth(tmp_path: Path) -> None:
    """Unsubscribed, subscribed again, unsubscribed again."""
    async with world(tmp_path) as it:
        for number in range(4):
            await sent(it, 2 * number)
            await it.until(SUBSCRIPTION, lambda rows: rows == [(1,)])
            await sent(it, 2 * number + 1, "message.push.unsubscribed")
            await it.until(SUBSCRIPTION, lambda rows: rows == [(0,)])


@pytest.mark.parametrize(
    ("other", "user"),
    [("message.push.unsubscribed", "anna"), ("message.push.sent", "ben")],
)
async def test_the_newest_event_of_a_body_counts(tmp_path: Path, other: str, user: str) -> None:
    """Also when a flag changes twice within one body."""
    async with world(tmp_path) as it:
        await it.relay.post(subscription_event(1, "message.push.sent", "2026-01-01T00:00:01Z"))
        await it.until(SUBSCRIPTION, lambda rows: rows == [(1,)])
        await it.relay.post(subscription_event(2, "message.push.sent", "2026-01-01T00:00:02Z"))
        both = [
            subscription_event(3, other, "2026-01-01T00:00:03Z", user),
            subscription_event(4, "message.push.sent", "2026-01-01T00:00:04Z"),
        ]
        await it.relay.post(both)
        newest = "SELECT count(*) FROM subscriptions WHERE as_of = 1767225604000"
        await it.until(newest, lambda rows: rows == [(1,)])
        assert it.look("SELECT external_id, is_subscribed FROM subscriptions") == [("anna", 1)]
