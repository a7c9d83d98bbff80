"""Batches, order, linger, pause and restart, from the webhook to Amplitude."""

from pathlib import Path
from typing import cast

import anyio
import pytest

from tests.support.relays import (
    API_KEY,
    DEADLINE_S,
    app_environment,
    event,
    insert_id,
    relay_and_amplitude,
    running_relay,
)


async def test_a_lone_event_leaves_within_its_linger(tmp_path: Path) -> None:
    """It does not wait for a full batch."""
    async with relay_and_amplitude(tmp_path, {"RELAY_DELIVERY__LINGER_S": "0.3"}) as (
        relay,
        amplitude,
    ):
        with anyio.fail_after(5):
            await relay.post(event(1))
            await amplitude.ledger.wait_for_events(1)
            await relay.settled()


async def test_a_backlog_fills_whole_batches(tmp_path: Path) -> None:
    """After a pause, 3,500 events take four uploads, three of them full."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        await relay.api("POST", "/apps/shop/pause")
        for first in range(0, 3500, 500):
            await relay.post([event(n) for n in range(first, first + 500)])
        await relay.api("POST", "/apps/shop/resume")
        await relay.settled()
        assert sorted(line.events for line in amplitude.ledger.requests) == [500, 1000, 1000, 1000]


async def test_uploads_stay_within_the_bytes_and_are_compressed(tmp_path: Path) -> None:
    """The limit counts serialised bytes, envelope and commas included."""
    changes = {"RELAY_DELIVERY__MAX_BATCH_BYTES": "20000"}
    async with relay_and_amplitude(tmp_path, changes) as (relay, amplitude):
        await relay.post([event(n) for n in range(200)])
        await relay.settled()
        lines = list(amplitude.ledger.requests)
        assert max(line.plain_bytes for line in lines) <= 20_000
        assert sorted(line.plain_bytes for line in lines)[1] > 18_000
        assert all(line.is_gzip and line.wire_bytes < line.plain_bytes / 3 for line in lines)


async def test_gzip_can_be_switched_off(tmp_path: Path) -> None:
    """Then bodies of any size are sent plain."""
    async with relay_and_amplitude(tmp_path, {"RELAY_DELIVERY__GZIP": "false"}) as (
        relay,
        amplitude,
    ):
        await relay.post([event(n) for n in range(200)])
        await relay.settled()
        assert not any(line.is_gzip for line in amplitude.ledger.requests)


async def test_events_of_one_device_keep_their_order(tmp_path: Path) -> None:
    """Also through failures, holds and several senders."""
    async with relay_and_amplitude(
        tmp_path, {"RELAY_DELIVERY__MAX_BATCH_EVENTS": "7", "RELAY_DELIVERY__SENDERS": "8"}
    ) as (relay, amplitude):
        for fault in ("503", "reset", "429", "stored_500", "413"):
            amplitude.faults.add(fault, count=2)
        devices = [f"device-{n % 5}" for n in range(300)]
        for number, device in enumerate(devices):
            await relay.post(event(number, subscription_id=device))
        await relay.settled()
        orders = amplitude.ledger.account(API_KEY).device_order
        for device in set(devices):
            sent = [insert_id(n) for n, name in enumerate(devices) if name == device]
            assert list(orders[device]) == sent


async def test_apps_never_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one app's uploads hang, another's succeed."""
    monkeypatch.setattr("relay.daemon.run.DRAIN_S", 0.1)
    async with relay_and_amplitude(
        tmp_path, {"RELAY_DELIVERY__REQUEST_TIMEOUT_S": "30"}, apps=("shop", "game")
    ) as (relay, amplitude):
        amplitude.faults.add("hang", api_key=API_KEY)
        await relay.post([event(n) for n in range(5)])
        with anyio.fail_after(DEADLINE_S):
            await amplitude.ledger.wait_until(lambda ledger: ledger.total_events == 0)
        await relay.post([event(n) for n in range(50)], app="game")
        assert (await relay.settled("game"))["delivered"] == 50
        assert (await relay.status())["in_flight"] == 5


async def test_a_pause_survives_a_restart(tmp_path: Path) -> None:
    """A paused app stays paused until it is resumed, and still accepts events."""
    environment = app_environment("shop", "http://127.0.0.1:9")
    async with running_relay(tmp_path, environment) as relay:
        assert (await relay.api("POST", "/apps/shop/pause")).json == {"affected": 1}
        assert (await relay.api("POST", "/apps/shop/pause")).json == {"affected": 0}
    async with relay_and_amplitude(tmp_path) as (relay, _):
        assert (await relay.post(event(1))).json["accepted"] == 1
        status = await relay.status()
        assert (status["delivery"], status["pending"]) == ("paused", 1)
        await relay.api("POST", "/apps/shop/resume")
        assert (await relay.settled())["delivered"] == 1


async def test_pending_events_and_counts_survive_a_restart(tmp_path: Path) -> None:
    """Pending events, all counts and dedup keys are on disk."""
    environment = app_environment("shop", "http://127.0.0.1:9")
    async with running_relay(tmp_path, environment) as relay:
        await relay.post([event(1), event(2), event(1)])
        await relay.post([event(3, kind="message.live_activity.sent"), 42])
        before = await relay.status()
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        after = await relay.settled()
        assert after["delivered"] == 2
        for name in ("accepted", "duplicate", "filtered", "quarantined"):
            assert after[name] == before[name]
        assert (await relay.post(event(2))).json["duplicate"] == 1
        assert len(amplitude.ledger.account(API_KEY).insert_ids) == 2


async def test_a_late_blank_event_gets_its_message_back(tmp_path: Path) -> None:
    """Fields OneSignal no longer sends come from an earlier event of the message."""
    blank = {"name": "", "title": "", "contents": ""}
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        await relay.post(event(1))
        await relay.settled()
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        await relay.post(event(2, message=blank))
        await relay.settled()
        (late,) = amplitude.ledger.account(API_KEY).events
        properties = cast("dict[str, str]", late["event_properties"])
        assert properties["Message Name"] == "offer"
        assert properties["Message Title"] == "Hallo"
        assert properties["Message Contents"] == "20% off"


async def test_a_dead_letter_can_be_retried_and_discarded(tmp_path: Path) -> None:
    """A retry makes it pending again with the same bytes; a discard counts it."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("404", count=3)
        for number in (1, 2, 3):
            await relay.post(event(number))
            await relay.until(lambda status, n=number: status["dead"] == n)  # type: ignore[misc]
        dead_letters = await relay.dead_letters()
        first = {"ids": [dead_letters[0]["id"]]}
        dry = await relay.api("POST", "/dead-letters/retry", {**first, "dry_run": True})
        assert dry.json == {"affected": 1}
        assert (await relay.status())["dead"] == 3
        assert (await relay.api("POST", "/dead-letters/retry", first)).json == {"affected": 1}
        assert (await relay.settled())["delivered"] == 1
        assert (await relay.api("POST", "/dead-letters/retry", first)).json == {"affected": 0}
        gone = await relay.api("POST", "/dead-letters/discard", {"app": "shop"})
        assert gone.json == {"affected": 2}
        status = await relay.status()
        assert (status["dead"], status["discarded"]) == (0, 2)
        assert not amplitude.ledger.violation_counts


async def test_a_message_is_cached_from_several_events(tmp_path: Path) -> None:
    """Events complement each other; the first value of a field wins."""
    bare = {"name": "first", "title": "", "contents": ""}
    full = {"name": "second", "title": "T", "contents": "C"}
    blank = {"name": "", "title": "", "contents": ""}
    async with relay_and_amplitude(tmp_path) as (relay, _):
        await relay.post(event(1, message=bare))
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        await relay.post(event(2, message=full))
        await relay.post(event(3, message=blank))
        await relay.settled()
        late = amplitude.ledger.account(API_KEY).events[-1]
        properties = cast("dict[str, str]", late["event_properties"])
        assert properties["Message Name"] == "first"
        assert (properties["Message Title"], properties["Message Contents"]) == ("T", "C")
