"""What passing events tell the directory, told again and again."""

from pathlib import Path

from tests.support.cohort_relays import World, world
from tests.support.relays import event

SUBSCRIPTION = "SELECT is_subscribed FROM subscriptions"
NOW = "2030-01-01T00:00:00Z"


async def sent(it: World, number: int, kind: str = "message.push.sent") -> None:
    """Post an event of one subscription."""
    body = event(number, kind=kind, subscription_id="s-1", external_id="anna", datetime=NOW)
    assert (await it.relay.post(body)).json["accepted"] == 1


async def test_what_was_confirmed_counts_again_after_another_s_word(tmp_path: Path) -> None:
    """An event that says what the one before it said is news once an app has said otherwise."""
    async with world(tmp_path) as it:
        await sent(it, 1)
        await it.until(SUBSCRIPTION, lambda rows: rows == [(1,)])
        await sent(it, 2)
        await sent(it, 3)
        told = {"subscriptions": [{"id": "s-1", "type": "iOSPush", "subscribed": False}]}
        assert (await it.relay.api("PUT", "/directory/shop/anna", told)).status == 204
        await it.until(SUBSCRIPTION, lambda rows: rows == [(0,)])
        await sent(it, 4)
        await it.until(SUBSCRIPTION, lambda rows: rows == [(1,)])


async def test_a_flag_follows_the_events_back_and_forth(tmp_path: Path) -> None:
    """Unsubscribed, reached again, unsubscribed again."""
    async with world(tmp_path) as it:
        for number in range(4):
            await sent(it, 2 * number)
            await it.until(SUBSCRIPTION, lambda rows: rows == [(1,)])
            await sent(it, 2 * number + 1, "message.push.unsubscribed")
            await it.until(SUBSCRIPTION, lambda rows: rows == [(0,)])
