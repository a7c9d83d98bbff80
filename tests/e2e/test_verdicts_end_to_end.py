"""Each kind of answer from Amplitude, and what happens to the events."""

from pathlib import Path

import anyio
import pytest

from relay.sandbox.amplitude.conditions import Conditions, Poison
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from tests.support.clocks import AdjustableClock
from tests.support.relays import (
    API_KEY,
    DEADLINE_S,
    Relay,
    event,
    insert_id,
    relay_and_amplitude,
)

TRANSIENT = (
    "408", "429", "500", "502", "503", "504",
    "200_html", "200_empty", "200_garbage", "200_no_code", "200_code_500", "200_cut",
    "hang", "reset",
    "stored_500", "stored_504", "stored_reset", "stored_hang", "stored_200_cut",
)  # fmt: skip


def poison(effect: str, *numbers: int, indices: str = "endpoint") -> Conditions:
    """Return conditions that make some events poison."""
    ids = frozenset(insert_id(number) for number in numbers)
    return Conditions(
        poisons=(Poison.model_validate({"insert_ids": ids, "effect": effect, "indices": indices}),)
    )


async def post_all(relay: Relay, count: int, first: int = 1) -> None:
    """Post events, `count` of them, in one body."""
    answer = await relay.post([event(number) for number in range(first, first + count)])
    assert answer.json == {"accepted": count, "duplicate": 0, "filtered": 0, "quarantined": 0}


def stored(amplitude: AmplitudeStandIn, key: str = API_KEY) -> list[str]:
    """Return the insert ids Amplitude has."""
    return sorted(amplitude.ledger.account(key).insert_ids)


def expected(*numbers: int) -> list[str]:
    """Return insert ids of events by number."""
    return sorted(insert_id(number) for number in numbers)


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_a_passing_fault_costs_no_event_and_counts_none_twice(
    tmp_path: Path, fault: str
) -> None:
    """Every event arrives once, with the same bytes."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add(fault, count=3)
        await post_all(relay, 25)
        status = await relay.settled()
        assert stored(amplitude) == expected(*range(1, 26))
        assert (status["delivered"], status["dead"]) == (25, 0)
        assert not amplitude.ledger.violation_counts


async def test_an_upload_is_settled_only_by_a_200_whose_body_says_200(tmp_path: Path) -> None:
    """A proxy's friendly page is no delivery: the events stay pending."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("200_html")
        await post_all(relay, 3)
        status = await relay.until(lambda status: status["delivery"] == "backing_off")
        assert (status["pending"], status["delivered"]) == (3, 0)
        amplitude.faults.clear()
        assert (await relay.settled())["delivered"] == 3


@pytest.mark.parametrize("upload", ["httpapi", "batch"])
async def test_named_events_are_dead_lettered_and_all_others_arrive(
    tmp_path: Path, upload: str
) -> None:
    """A 400 with indices dead-letters exactly the events it names, on either API."""
    changes = {"RELAY_APPS__SHOP__AMPLITUDE_UPLOAD": upload}
    async with relay_and_amplitude(tmp_path, changes) as (relay, amplitude):
        amplitude.conditions = poison("invalid_field", 3, 7, 8, 40)
        await post_all(relay, 40)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (36, 4)
        dead_letters = await relay.dead_letters()
        assert sorted(dead_letter["insert_id"] for dead_letter in dead_letters) == expected(
            3, 7, 8, 40
        )
        assert {dead_letter["reason"] for dead_letter in dead_letters} == {"invalid_field"}
        assert all("event_properties" in dead_letter["detail"] for dead_letter in dead_letters)


async def test_good_events_do_not_wait_a_round_for_each_bad_one(tmp_path: Path) -> None:
    """If only the first bad event is named, the rest is split, not resent whole."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        bad = range(5, 1000, 10)
        amplitude.conditions = poison("invalid_field", *bad)
        await post_all(relay, 1000)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (900, 100)
        sent = sum(line.events for line in amplitude.ledger.requests)
        assert sent < 12_000  # one round per bad event would send some 50,000


@pytest.mark.parametrize("effect", ["bare_400", "html_400", "payload_413", "waf_403"])
async def test_an_answer_without_names_is_halved_down_to_one_event(
    tmp_path: Path, effect: str
) -> None:
    """Only the bad event is dead-lettered; all around it arrive."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.conditions = poison(effect, 17)
        await post_all(relay, 50)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (49, 1)
        (dead_letter,) = await relay.dead_letters()
        assert dead_letter["insert_id"] == insert_id(17)
        assert dead_letter["attempts"] > 1
        assert stored(amplitude) == expected(*(n for n in range(1, 51) if n != 17))


async def test_a_smaller_size_is_remembered_after_a_413(tmp_path: Path) -> None:
    """After one 413 later uploads are smaller from the start."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.conditions = Conditions(max_events=100)
        await post_all(relay, 1000)
        await relay.settled()
        refused = sum(line.status == 413 for line in amplitude.ledger.requests)
        await post_all(relay, 1000, first=1001)
        await relay.settled()
        again = sum(line.status == 413 for line in amplitude.ledger.requests) - refused
        assert refused >= 4
        assert again <= 1


async def test_a_throttled_device_is_held_while_all_others_continue(tmp_path: Path) -> None:
    """Throttled events are held, never dead, and are sent after the hold."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        device = "a3f1c8d2-77b0-4f0b-8a51-000000000005"
        amplitude.conditions = Conditions.model_validate({"throttled_devices": [device]})
        await post_all(relay, 20)
        status = await relay.until(lambda status: status["delivered"] == 19)
        assert (status["pending"], status["dead"], status["delivery"]) == (1, 0, "running")
        refused = sum(line.status == 429 for line in amplitude.ledger.requests)
        assert refused <= 3  # it is held, not retried at once
        amplitude.conditions = Conditions()
        assert (await relay.settled())["delivered"] == 20


async def test_a_daily_quota_holds_for_an_hour(tmp_path: Path) -> None:
    """A device over its daily quota is held long, and not dead-lettered."""
    clock = AdjustableClock()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.conditions = Conditions.model_validate({"quota_users": ["user-2"]})
        await post_all(relay, 3)
        await relay.until(lambda status: status["delivered"] == 2)
        amplitude.conditions = Conditions()
        clock.advance(600)
        await post_all(relay, 1, first=10)
        status = await relay.until(lambda status: status["delivered"] == 3)
        assert status["pending"] == 1
        clock.advance(3600)
        await post_all(relay, 1, first=11)
        assert (await relay.settled())["delivered"] == 5


async def test_events_of_a_silenced_device_are_dead_lettered(tmp_path: Path) -> None:
    """Events of a muted device are dead letters; retrying is up to the operator."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        device = "a3f1c8d2-77b0-4f0b-8a51-000000000002"
        amplitude.conditions = Conditions.model_validate({"silenced_devices": [device]})
        await post_all(relay, 3)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (2, 1)
        (dead_letter,) = await relay.dead_letters()
        assert dead_letter["reason"] == "silenced"


async def test_a_wrong_key_halts_that_app_alone_and_loses_nothing(tmp_path: Path) -> None:
    """The other app continues; once fixed, the halted one resumes alone."""
    async with relay_and_amplitude(tmp_path, apps=("shop", "game")) as (relay, amplitude):
        amplitude.api_keys.discard(API_KEY)
        await post_all(relay, 5)
        halted = await relay.until(lambda status: status["delivery"] == "halted")
        assert (halted["pending"], halted["dead"]) == (5, 0)
        assert API_KEY not in str(halted)
        ready = await relay.ask("GET", f"{relay.public}/readyz")
        assert ready.status == 200
        answer = await relay.post([event(n) for n in range(1, 8)], app="game")
        assert answer.json["accepted"] == 7
        assert (await relay.settled("game"))["delivered"] == 7
        amplitude.api_keys.add(API_KEY)
        status = await relay.settled()
        assert (status["delivered"], status["delivery"]) == (5, "running")


async def test_a_refusal_of_everything_halts_the_app(tmp_path: Path) -> None:
    """A 403 for every event dead-letters none; the app is probed later."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("403")
        await post_all(relay, 50)
        halted = await relay.until(lambda status: status["delivery"] == "halted")
        assert (halted["pending"], halted["dead"]) == (50, 0)
        assert len(amplitude.ledger.requests) < 40
        amplitude.faults.clear()
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (50, 0)


async def test_a_lone_event_under_a_404_becomes_a_dead_letter(tmp_path: Path) -> None:
    """An answer about the request dead-letters the event it was about."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("404", count=1)
        await post_all(relay, 1)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (0, 1)


async def test_an_outage_is_not_hammered(tmp_path: Path) -> None:
    """While Amplitude is down, one request goes at a time, however many senders wait."""
    changes = {"RELAY_DELIVERY__BACKOFF_BASE_S": "0.2", "RELAY_DELIVERY__BACKOFF_CAP_S": "0.4"}
    async with relay_and_amplitude(tmp_path, changes) as (relay, amplitude):
        amplitude.faults.add("503")
        for first in range(1, 4001, 1000):
            await post_all(relay, 1000, first=first)
        with anyio.fail_after(DEADLINE_S):
            await amplitude.ledger.wait_until(lambda ledger: ledger.total_requests >= 8)
        lines = list(amplitude.ledger.requests)
        assert all(line.status == 503 for line in lines)
        assert lines[-1].at - lines[3].at >= 100
        amplitude.faults.clear()
        assert (await relay.settled())["delivered"] == 4000


async def test_retry_after_counts_beyond_the_cap(tmp_path: Path) -> None:
    """Amplitude's Retry-After may exceed the backoff's cap."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("503", count=1, retry_after=1)
        await post_all(relay, 1)
        await relay.settled()
        first, second = list(amplitude.ledger.requests)
        assert second.at - first.at >= 900


async def test_an_event_first_tried_too_long_ago_expires(tmp_path: Path) -> None:
    """Past the age at which Amplitude forgets insert ids, an event is not resent."""
    clock = AdjustableClock()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, amplitude):
        amplitude.faults.add("503")
        await post_all(relay, 1)
        await relay.until(lambda status: status["delivery"] == "backing_off")
        clock.advance(7 * 86_400)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (0, 1)
        (dead_letter,) = await relay.dead_letters()
        assert dead_letter["reason"] == "expired"
        assert dead_letter["attempts"] >= 1
        amplitude.faults.clear()


async def test_an_untried_event_never_expires(tmp_path: Path) -> None:
    """A pause of weeks costs nothing: the age counts from the first upload."""
    clock = AdjustableClock()
    async with relay_and_amplitude(tmp_path, clock=clock) as (relay, _):
        await relay.api("POST", "/apps/shop/pause")
        await post_all(relay, 2)
        clock.advance(30 * 86_400)
        assert (await relay.status())["delivery"] == "paused"
        await relay.api("POST", "/apps/shop/resume")
        assert (await relay.settled())["delivered"] == 2


async def test_a_403_for_everything_after_a_proven_refusal_kills_nothing(tmp_path: Path) -> None:
    """The proof about one event is no proof about the next."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.conditions = poison("waf_403", 1)
        await post_all(relay, 10)
        assert (await relay.settled())["dead"] == 1
        amplitude.faults.add("403")
        await post_all(relay, 30, first=100)
        halted = await relay.until(lambda status: status["delivery"] == "halted")
        assert (halted["pending"], halted["dead"]) == (30, 1)
        amplitude.faults.clear()
        assert (await relay.settled())["delivered"] == 39


async def test_a_device_throttled_by_index_alone_is_held_whole(tmp_path: Path) -> None:
    """All of its events are held, in order, though the answer names one."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        device = "the-same-device"
        amplitude.conditions = Conditions.model_validate({"throttled_devices": [device]})
        await relay.post([event(n, subscription_id=device) for n in range(5)])
        await amplitude.ledger.wait_until(lambda ledger: ledger.total_requests >= 1)
        amplitude.conditions = Conditions()
        await relay.settled()
        order = amplitude.ledger.account(API_KEY).device_order[device]
        assert list(order) == [insert_id(n) for n in range(5)]


@pytest.mark.parametrize("senders", ["1", "4"])
async def test_a_run_of_refused_events_is_dead_lettered_and_stops_no_others(
    tmp_path: Path, senders: str
) -> None:
    """A firewall dislikes one campaign's title: only its events are dead-lettered."""
    changes = {"RELAY_DELIVERY__SENDERS": senders}
    async with relay_and_amplitude(tmp_path, changes) as (relay, amplitude):
        amplitude.conditions = poison("waf_403", *range(1, 101))
        await post_all(relay, 400)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (300, 100)
        assert len(amplitude.ledger.requests) < 700


async def test_a_run_of_refused_events_ahead_of_all_others_is_dead_lettered(tmp_path: Path) -> None:
    """The app halts first; a later accepted event proves it can deliver."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.conditions = poison("waf_403", *range(1, 41))
        await post_all(relay, 40)
        await relay.until(lambda status: status["delivery"] == "halted")
        await post_all(relay, 40, first=1000)
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (40, 40)


async def test_a_403_for_everything_halfway_kills_nothing(tmp_path: Path) -> None:
    """Events refused alone only during the outage do not stay suspects."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.conditions = poison("waf_403", 1)
        amplitude.faults.add("slow", count=2, delay_s=0.01)
        await post_all(relay, 200)
        await amplitude.ledger.wait_until(lambda ledger: ledger.total_events > 0)
        amplitude.faults.add("403")
        await post_all(relay, 200, first=1000)
        await relay.until(lambda status: status["delivery"] == "halted")
        amplitude.faults.clear()
        status = await relay.settled()
        assert (status["delivered"], status["dead"]) == (399, 1)


async def test_a_clock_set_back_delays_nothing(tmp_path: Path) -> None:
    """The linger never grows with a correction of the clock."""
    clock = AdjustableClock()
    clock.advance(86_400)
    changes = {"RELAY_DELIVERY__LINGER_S": "0.3"}
    async with relay_and_amplitude(tmp_path, changes, clock=clock) as (relay, _):
        await relay.api("POST", "/apps/shop/pause")
        await post_all(relay, 1)
        clock.advance(-86_400)
        await relay.api("POST", "/apps/shop/resume")
        with anyio.fail_after(5):
            await relay.settled()


async def test_a_quota_of_one_device_does_not_hold_its_user_s_others(tmp_path: Path) -> None:
    """The hour is for the device over quota; the user is held only as long as throttled."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.conditions = Conditions.model_validate(
            {"quota_devices": ["device-a"], "throttled_users": ["user-u"]}
        )
        both = [
            event(n, subscription_id=device, external_id="user-u")
            for n, device in ((1, "device-a"), (2, "device-b"))
        ]
        await relay.post(both)
        await amplitude.ledger.wait_until(lambda ledger: ledger.total_requests >= 1)
        amplitude.conditions = Conditions()
        status = await relay.until(lambda status: status["delivered"] == 1)
        assert status["pending"] == 1
        assert stored(amplitude) == expected(2)
