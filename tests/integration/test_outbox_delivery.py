"""Delivery of one app's events from a real outbox to a scripted Amplitude."""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio import wait_all_tasks_blocked

from relay.amplitude.verdicts import UploadReply
from relay.delivery.batching import RECOVERY_UPLOADS, BatchLimits
from relay.delivery.circuit_breaker import BreakerState
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.pool import DeliverySetup
from relay.errors import StoreFull
from relay.events.mapping import MappedEvent
from relay.outbox.claims import Settlement, Waiting
from relay.outbox.selection import Selection
from relay.outbox.store import Outbox
from tests.support.clocks import AdjustableClock, FakeClock
from tests.support.deliveries import (
    ACCEPTED,
    DAY_MS,
    SETUP,
    Bench,
    Meter,
    ScriptedAmplitude,
    Upload,
    answer,
    ids_of,
    make_delivery,
    running_delivery,
)
from tests.support.disks import crash_copy
from tests.support.outboxes import (
    append,
    busy_reader,
    counts,
    limit_pages,
    mapped,
    running_outbox,
    waiting,
)

BAD_KEY = answer(400, error="Invalid API key: [api key]")
FORBIDDEN = answer(403, error="Forbidden")
ALL = Selection()


def _with_batches_of(events: int, *, senders: int = 1) -> DeliverySetup:
    limits = BatchLimits(max_events=events, max_bytes=900_000, overhead_bytes=60)
    return replace(SETUP, limits=limits, senders=senders)


def _state(bench: Bench) -> BreakerState:
    return bench.delivery.breaker.state


def _has_more_than(amplitude: ScriptedAmplitude, uploads: int) -> bool:
    return len(amplitude.uploads) > uploads


def _names(upload: Upload, wanted: str) -> list[int]:
    return [place for place, event in enumerate(upload) if event["insert_id"].startswith(wanted)]


def _on(device: str, *ids: str, user: str | None = "user-1") -> list[MappedEvent]:
    return [mapped(name, device_id=device, user_id=user) for name in ids]


async def _reasons(bench: Bench) -> dict[str, str]:
    dead_letters = await bench.outbox.dead_letters.page(ALL, after=0, limit=1000)
    return {dead_letter.insert_id: dead_letter.reason for dead_letter in dead_letters}


async def test_accepted_events_are_delivered_in_order_and_counted(tmp_path: Path) -> None:
    """Every accepted event is sent once, in order of acceptance, and counts as delivered."""
    amplitude = ScriptedAmplitude()
    async with running_delivery(tmp_path, amplitude) as bench:
        ids = [f"e{number:03}" for number in range(25)]
        await append(bench.outbox, *ids)
        await bench.settled(25)
        assert amplitude.accepted == ids
        found = await counts(bench.outbox)
        assert (found.accepted, found.delivered, found.pending) == (25, 25, 0)


async def test_events_of_an_earlier_run_are_delivered_at_the_start(tmp_path: Path) -> None:
    """Pending events on disk need no new arrival."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1", "e2")
    async with running_delivery(tmp_path, ScriptedAmplitude()) as bench:
        await bench.settled(2)
        assert bench.amplitude.accepted == ["e1", "e2"]


async def test_rows_named_by_a_400_are_dead_lettered_and_the_rest_is_resent(tmp_path: Path) -> None:
    """A partial rejection dead-letters exactly the named events."""

    def script(upload: Upload) -> UploadReply:
        bad = _names(upload, "bad")
        return answer(400, events_with_invalid_fields={"time": bad}) if bad else ACCEPTED

    async with running_delivery(tmp_path, ScriptedAmplitude(script)) as bench:
        await append(bench.outbox, "e1", "bad1", "e2", "bad2", "e3")
        await bench.settled(5)
        assert bench.amplitude.accepted == ["e1", "e2", "e3"]
        assert await _reasons(bench) == {"bad1": "invalid_field", "bad2": "invalid_field"}


async def test_first_only_indices_find_every_bad_event_without_repeating_a_batch(
    tmp_path: Path,
) -> None:
    """HTTP V2 names only the first bad event; all are dead-lettered, no batch repeats."""

    def script(upload: Upload) -> UploadReply:
        bad = _names(upload, "bad")[:1]
        return answer(400, events_with_missing_fields={"event_type": bad}) if bad else ACCEPTED

    amplitude = ScriptedAmplitude(script)
    async with running_delivery(tmp_path, amplitude, _with_batches_of(64)) as bench:
        ids = [f"bad{number}" if number % 3 else f"e{number}" for number in range(64)]
        await append(bench.outbox, *ids)
        await bench.settled(64)
        assert sorted(amplitude.accepted) == sorted(name for name in ids if name.startswith("e"))
        assert sorted(await _reasons(bench)) == sorted(n for n in ids if n.startswith("bad"))
        sent = [tuple(ids_of(upload)) for upload in amplitude.uploads]
        assert len(sent) == len(set(sent))


@pytest.mark.parametrize("status", [400, 413])
async def test_an_unexplained_refusal_is_halved_down_to_the_bad_event(
    tmp_path: Path, status: int
) -> None:
    """A 400 or 413 without rows dead-letters only the event that is refused alone."""

    def script(upload: Upload) -> UploadReply:
        return answer(status, error="No") if _names(upload, "bad") else ACCEPTED

    async with running_delivery(tmp_path, ScriptedAmplitude(script)) as bench:
        await append(bench.outbox, "e1", "e2", "e3", "bad", "e4", "e5")
        await bench.settled(6)
        assert sorted(bench.amplitude.accepted) == ["e1", "e2", "e3", "e4", "e5"]
        assert list(await _reasons(bench)) == ["bad"]


async def test_a_lone_oversized_event_does_not_make_uploads_small(tmp_path: Path) -> None:
    """One event's size says nothing about how many others fit."""

    def script(upload: Upload) -> UploadReply:
        return answer(413, error="Payload too large") if _names(upload, "bad") else ACCEPTED

    amplitude = ScriptedAmplitude(script)
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(bench.outbox, "bad")
        await bench.settled(1)
        await append(bench.outbox, *(f"e{number}" for number in range(10)))
        await bench.settled(11)
        assert [len(upload) for upload in amplitude.uploads] == [1, 10]


async def test_a_learned_size_recovers_once_many_uploads_were_taken(tmp_path: Path) -> None:
    """Amplitude's limit may have been a passing one."""
    largest = 5

    def script(upload: Upload) -> UploadReply:
        return ACCEPTED if len(upload) <= largest else answer(413, error="Payload too large")

    amplitude = ScriptedAmplitude(script)
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(bench.outbox, *(f"first{number}" for number in range(10)))
        await bench.settled(10)
        largest = 10
        events = 5 * RECOVERY_UPLOADS + 10
        await append(bench.outbox, *(f"e{number}" for number in range(events)))
        await bench.settled(10 + events, within_s=20)
        sizes = [len(upload) for upload in amplitude.uploads]
        assert sizes[:4] == [10, 5, 5, 5]
        assert sizes[-1] == 10


@pytest.mark.parametrize(
    "reply",
    [
        UploadReply(200, b"<html>ok</html>"),
        UploadReply(200, b""),
        UploadReply(200, b'{"code":2'),
        UploadReply(200, b"{}"),
        UploadReply(200, b'{"code":400}'),
        UploadReply(None, failure="reset"),
        UploadReply(302),
        answer(408),
        *(answer(status) for status in (500, 502, 503, 504)),
    ],
)
async def test_unconfirmed_uploads_are_resent_unchanged(tmp_path: Path, reply: UploadReply) -> None:
    """Only a confirmed 200 settles; the same bytes are sent again."""
    amplitude = ScriptedAmplitude(lambda _: reply if len(amplitude.uploads) < 3 else ACCEPTED)
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(bench.outbox, "e1", "e2")
        await bench.settled(2)
        assert amplitude.uploads == [amplitude.uploads[0]] * 3
        assert (await counts(bench.outbox)).delivered == 2


async def test_a_throttled_device_is_held_while_others_continue(
    tmp_path: Path,
) -> None:
    """A 429 with ids holds only those, for the hold time."""
    is_throttled = True

    def script(upload: Upload) -> UploadReply:
        slow = [place for place, event in enumerate(upload) if event["device_id"] == "slow"]
        if slow and is_throttled:
            return answer(429, throttled_devices={"slow": 31}, throttled_events=slow)
        return ACCEPTED

    amplitude = ScriptedAmplitude(script)
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(bench.outbox, *_on("slow", "s1"), *_on("quick", "q1"), *_on("slow", "s2"))
        await bench.settled(1)
        await append(bench.outbox, *_on("slow", "s3"), *_on("quick", "q2"))
        await bench.settled(2)
        assert amplitude.accepted == ["q1", "q2"]
        assert (await counts(bench.outbox)).dead == 0
        is_throttled = False
        bench.clock.advance(SETUP.policy.hold_s)
        await append(bench.outbox, *_on("quick", "q3"))
        await bench.settled(6)
        assert [name for name in amplitude.accepted if name[0] == "s"] == ["s1", "s2", "s3"]


async def test_a_throttled_device_named_by_one_index_keeps_its_order(tmp_path: Path) -> None:
    """Later events of a held device wait behind the held one, also within its upload."""
    throttled = ["e1"]

    def script(upload: Upload) -> UploadReply:
        named = [place for place, name in enumerate(ids_of(upload)) if name in throttled]
        return answer(429, throttled_events=named) if named else ACCEPTED

    amplitude = ScriptedAmplitude(script)
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(bench.outbox, *_on("slow", "e1", "e2"), *_on("quick", "q1"))
        await bench.settled(1)
        throttled.clear()
        bench.clock.advance(SETUP.policy.hold_s)
        await append(bench.outbox, *_on("quick", "q2"))
        await bench.settled(4)
        assert [name for name in amplitude.accepted if name[0] == "e"] == ["e1", "e2"]


async def test_a_throttled_user_holds_later_events_of_the_device(
    tmp_path: Path,
) -> None:
    """A device's order holds although only one of its users is held."""
    is_throttled = True

    def script(upload: Upload) -> UploadReply:
        if is_throttled and any(event["user_id"] == "ann" for event in upload):
            return answer(429, throttled_users={"ann": 31})
        return ACCEPTED

    amplitude = ScriptedAmplitude(script)
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(
            bench.outbox,
            *_on("shared", "a1", user="ann"),
            *_on("shared", "b1", user="bob"),
            *_on("quick", "q1", user="cid"),
        )
        await bench.settled(1)
        is_throttled = False
        bench.clock.advance(SETUP.policy.hold_s)
        await append(bench.outbox, *_on("quick", "q2", user="cid"))
        await bench.settled(4)
        assert [name for name in amplitude.accepted if name[0] in "ab"] == ["a1", "b1"]


async def test_a_long_backlog_of_a_held_device_delays_no_others(tmp_path: Path) -> None:
    """Events behind thousands of a held device are sent at once, not a page at a time."""

    def script(upload: Upload) -> UploadReply:
        return (
            answer(429, throttled_devices={"slow": 31})
            if any(event["device_id"] == "slow" for event in upload)
            else ACCEPTED
        )

    async with running_outbox(tmp_path) as outbox:
        await append(outbox, *_on("slow", *(f"s{number}" for number in range(5_000))))
        await append(outbox, *_on("quick", "q1"))
    async with running_delivery(tmp_path, ScriptedAmplitude(script)) as bench:
        await bench.settled(1, within_s=2)
        assert bench.amplitude.accepted == ["q1"]


async def test_a_second_hold_on_a_waiting_key_delays_no_others(tmp_path: Path) -> None:
    """An ordering key with a free device and a held user is not re-read in a loop."""
    is_device_throttled = True

    def script(upload: Upload) -> UploadReply:
        if any(event["user_id"] == "ann" for event in upload):
            devices = {"slow": 31} if is_device_throttled else {}
            users = {} if is_device_throttled else {"ann": 31}
            return answer(429, throttled_devices=devices, throttled_users=users)
        return ACCEPTED

    ids = [f"s{number}" for number in range(1_500)]
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, *_on("slow", *ids, user="ann"))
    async with running_delivery(tmp_path, ScriptedAmplitude(script)) as bench:
        await bench.amplitude.until(lambda: len(bench.amplitude.uploads) >= 1)
        await append(bench.outbox, *_on("ann's other", "a1", user="ann"))
        is_device_throttled = False
        await bench.amplitude.until(lambda: len(bench.amplitude.uploads) >= 2)
        bench.clock.advance(SETUP.policy.hold_s - 1)
        await append(bench.outbox, *_on("quick", "q1", user="bob"))
        await bench.settled(1, within_s=2)
        bench.clock.advance(2)
        for number in range(2, 6):
            await append(bench.outbox, *_on("quick", f"q{number}", user="bob"))
            await bench.settled(number, within_s=2)


async def test_a_bad_key_halts_the_app_and_loses_nothing(tmp_path: Path) -> None:
    """Events stay pending while the key is refused and are sent once it is accepted."""
    reply = BAD_KEY
    amplitude = ScriptedAmplitude(lambda _: reply)
    async with running_delivery(tmp_path, amplitude, replace(SETUP, halt_probe_s=0.05)) as bench:
        await append(bench.outbox, "e1", "e2")
        await amplitude.until(lambda: len(amplitude.uploads) >= 2)
        assert _state(bench) is BreakerState.HALTED
        assert (await counts(bench.outbox)).pending == 2
        reply = ACCEPTED
        await bench.settled(2)
        assert _state(bench) is BreakerState.RUNNING
        assert bench.delivery.breaker.last_error is None


async def test_a_halted_app_is_not_hammered_by_its_senders(tmp_path: Path) -> None:
    """Between two probes nothing is uploaded, however many senders and events there are."""
    amplitude = ScriptedAmplitude(lambda _: BAD_KEY)
    async with running_delivery(tmp_path, amplitude, _with_batches_of(5, senders=4)) as bench:
        for number in range(8):
            await append(bench.outbox, *_on(f"d{number}", *(f"e{number}-{i}" for i in range(5))))
        await amplitude.until(lambda: len(amplitude.uploads) >= 1)
        for _ in range(20):
            await bench.outbox.database.flush()
        await wait_all_tasks_blocked()
        assert len(amplitude.uploads) <= 4
        assert (await counts(bench.outbox)).pending == 40


async def test_an_event_with_a_403_of_its_own_is_dead_lettered(
    tmp_path: Path,
) -> None:
    """A 403 pinned to one event dead-letters that event and halts nothing."""

    def script(upload: Upload) -> UploadReply:
        return FORBIDDEN if _names(upload, "bad") else ACCEPTED

    async with running_delivery(tmp_path, ScriptedAmplitude(script)) as bench:
        await append(bench.outbox, "bad", *(f"e{number}" for number in range(9)))
        await bench.settled(10)
        assert await _reasons(bench) == {"bad": "forbidden"}
        assert _state(bench) is BreakerState.RUNNING


async def test_a_refusal_of_everything_halts_the_app_and_kills_nothing(tmp_path: Path) -> None:
    """A 403 for everything is no judgement on any event."""
    amplitude = ScriptedAmplitude(lambda _: FORBIDDEN)
    async with running_delivery(tmp_path, amplitude, _with_batches_of(64)) as bench:
        await append(bench.outbox, *(f"e{number}" for number in range(64)))
        await amplitude.until(lambda: _state(bench) is BreakerState.HALTED)
        assert (await counts(bench.outbox)).pending == 64
        assert len(amplitude.uploads) < 20


async def test_a_lone_refused_event_is_dead_lettered_once_others_are_accepted(
    tmp_path: Path,
) -> None:
    """A lone event with a 403 does not keep its app halted while others would pass."""

    def script(upload: Upload) -> UploadReply:
        return FORBIDDEN if _names(upload, "bad") else ACCEPTED

    amplitude = ScriptedAmplitude(script)
    setup = replace(_with_batches_of(10, senders=4), halt_probe_s=0.05)
    async with running_delivery(tmp_path, amplitude, setup) as bench:
        await append(bench.outbox, *_on("bad", "bad"))
        await amplitude.until(lambda: _state(bench) is BreakerState.HALTED)
        await append(bench.outbox, *_on("quick", "e1"))
        await bench.settled(2)
        assert await _reasons(bench) == {"bad": "forbidden"}
        assert _state(bench) is BreakerState.RUNNING


async def test_a_refused_event_is_dead_lettered_although_probes_are_minutes_apart(
    tmp_path: Path,
) -> None:
    """The proof that others pass outlives the interval between probes."""

    def script(upload: Upload) -> UploadReply:
        return FORBIDDEN if _names(upload, "bad") else ACCEPTED

    amplitude = ScriptedAmplitude(script)
    async with running_delivery(tmp_path, amplitude, _with_batches_of(10, senders=4)) as bench:
        await append(bench.outbox, *_on("bad", "bad"))
        await amplitude.until(lambda: _state(bench) is BreakerState.HALTED)
        for number in range(10):
            await append(bench.outbox, *_on("quick", f"e{number}"))
            bench.clock.advance(SETUP.halt_probe_s)
            sent = len(amplitude.uploads)
            bench.delivery.breaker.set_paused(paused=False)  # wakes the senders: the clock stepped
            await amplitude.until(partial(_has_more_than, amplitude, sent))
        await bench.settled(11)
        assert await _reasons(bench) == {"bad": "forbidden"}


async def test_refused_uploads_do_not_alternate_for_ever(tmp_path: Path) -> None:
    """Several batches of refused events do not starve the good ones behind them."""

    def script(upload: Upload) -> UploadReply:
        return FORBIDDEN if _names(upload, "bad") else ACCEPTED

    amplitude = ScriptedAmplitude(script)
    setup = replace(_with_batches_of(1), halt_probe_s=0.05)
    async with running_delivery(tmp_path, amplitude, setup) as bench:
        bad = [mapped(f"bad{number}", device_id=f"bad{number}") for number in range(4)]
        await append(bench.outbox, *bad, *_on("good", "e1"))
        await bench.settled(5)
        assert len(await _reasons(bench)) == 4
        assert amplitude.accepted == ["e1"]


async def test_an_ordering_key_is_with_one_sender_at_a_time(tmp_path: Path) -> None:
    """However many senders, two uploads in flight never hold events of one device."""
    amplitude = ScriptedAmplitude()
    async with running_delivery(tmp_path, amplitude, _with_batches_of(5, senders=4)) as bench:
        amplitude.may_answer = anyio.Event()
        await append(bench.outbox, *_on("hot", *(f"h{number}" for number in range(20))))
        await amplitude.until(lambda: amplitude.in_flight == 1)
        await append(bench.outbox, *_on("quick", "q1"))
        await amplitude.until(lambda: amplitude.in_flight == 2)
        amplitude.may_answer.set()
        await bench.settled(21)
        assert [name for name in amplitude.accepted if name[0] == "h"] == [
            f"h{n}" for n in range(20)
        ]


async def test_senders_upload_at_the_same_time(tmp_path: Path) -> None:
    """Four senders carry four uploads of different devices at once."""
    amplitude = ScriptedAmplitude()
    amplitude.may_answer = anyio.Event()
    async with running_delivery(tmp_path, amplitude, _with_batches_of(1, senders=4)) as bench:
        for number in range(6):
            await append(bench.outbox, *_on(f"d{number}", f"e{number}"))
        await amplitude.until(lambda: amplitude.in_flight == 4)
        assert bench.delivery.dispatcher.in_flight == 4
        amplitude.may_answer.set()
        await bench.settled(6)
        with anyio.fail_after(5):  # the dispatcher hears of it after the commit
            while bench.delivery.dispatcher.in_flight:
                await anyio.lowlevel.checkpoint()


async def test_an_event_first_tried_too_long_ago_expires_without_an_upload(tmp_path: Path) -> None:
    """Past the age at which Amplitude forgets insert ids nothing is resent."""
    amplitude = ScriptedAmplitude(lambda _: answer(500))
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(bench.outbox, "e1")
        await amplitude.until(lambda: len(amplitude.uploads) >= 2)
        bench.clock.advance(SETUP.policy.max_age_ms / 1000 + 1)
        await bench.settled(1)
        (dead_letter,) = await bench.outbox.dead_letters.page(ALL, after=0, limit=10)
        assert dead_letter.reason == "expired"
        assert dead_letter.attempts == len(amplitude.uploads)
        assert dead_letter.first_tried_at is not None


async def test_an_untried_event_never_expires(tmp_path: Path) -> None:
    """The age counts from the first upload, not from acceptance."""
    async with running_delivery(tmp_path, ScriptedAmplitude()) as bench:
        await append(bench.outbox, "e1", at_ms=bench.clock.now_ms() - 20 * DAY_MS)
        await bench.settled(1)
        assert bench.amplitude.accepted == ["e1"]


async def test_an_event_that_grows_too_old_while_paused_expires_without_an_upload(
    tmp_path: Path,
) -> None:
    """The age is checked when the upload may start, not when it began to wait."""
    amplitude = ScriptedAmplitude(lambda _: answer(500))
    setup = replace(
        SETUP, policy=replace(SETUP.policy, backoff=replace(SETUP.policy.backoff, cap_s=0.0))
    )
    async with running_delivery(tmp_path, amplitude, setup) as bench:
        await append(bench.outbox, "e1")
        await amplitude.until(lambda: len(amplitude.uploads) >= 1)
        bench.delivery.breaker.set_paused(paused=True)
        await wait_all_tasks_blocked()
        sent = len(amplitude.uploads)
        bench.clock.advance(setup.policy.max_age_ms / 1000 + 1)
        amplitude.script = lambda _: ACCEPTED
        bench.delivery.breaker.set_paused(paused=False)
        await bench.settled(1)
        assert await _reasons(bench) == {"e1": "expired"}
        assert len(amplitude.uploads) == sent


async def test_a_stop_settles_what_is_in_flight_and_claims_nothing_more(tmp_path: Path) -> None:
    """A drained pool of senders ends; the rest waits for the next start."""
    amplitude = ScriptedAmplitude()
    amplitude.may_answer = anyio.Event()
    async with running_outbox(tmp_path) as outbox:
        delivery = make_delivery(outbox, amplitude, Meter(), AdjustableClock())
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                await group.start(delivery.run)
                await append(outbox, *(f"e{number}" for number in range(15)))
                await amplitude.until(lambda: amplitude.in_flight == 1)
                delivery.drain()
                amplitude.may_answer.set()
        assert len(amplitude.uploads) == 1
        assert (await counts(outbox)).delivered == 10
    async with running_delivery(tmp_path, ScriptedAmplitude()) as bench:
        await bench.settled(15)
        assert bench.amplitude.accepted == [f"e{number}" for number in range(10, 15)]


async def test_a_crash_during_an_upload_sends_it_again_and_remembers_the_try(
    tmp_path: Path,
) -> None:
    """After a crash the events in flight go again, in the same bytes, counted as tried."""
    amplitude = ScriptedAmplitude()
    amplitude.may_answer = anyio.Event()
    async with running_delivery(tmp_path / "a", amplitude) as bench:
        await append(bench.outbox, "e1", "e2")
        await amplitude.until(lambda: amplitude.in_flight == 1)
        copy = crash_copy(tmp_path / "a", tmp_path / "b")
    again = ScriptedAmplitude()
    again.may_answer = anyio.Event()
    async with running_delivery(copy, again) as bench:
        await again.until(lambda: again.in_flight == 1)
        assert again.uploads == amplitude.uploads
        tries = [(event.attempts, event.first_tried_at) for event in await waiting(bench.outbox)]
        assert tries[0][0] == 1
        assert tries[0][1] is not None
        again.may_answer.set()
        await bench.settled(2)
        assert (await counts(bench.outbox)).delivered == 2


async def test_a_retried_dead_letter_is_delivered(tmp_path: Path) -> None:
    """A retried event is delivered like a new one."""
    amplitude = ScriptedAmplitude(lambda _: answer(400, error="No"))
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(bench.outbox, "e1")
        await bench.settled(1)
        amplitude.script = lambda _: ACCEPTED
        bench.delivery.dispatcher.arrived(await bench.outbox.dead_letters.retry(ALL))
        await amplitude.until(lambda: amplitude.accepted == ["e1"])
        await bench.settled(1)


async def test_events_removed_from_disk_are_dropped(tmp_path: Path) -> None:
    """An event removed while pending is not sent and does not block its ordering key."""
    amplitude = ScriptedAmplitude()
    async with running_delivery(tmp_path, amplitude) as bench:
        bench.delivery.breaker.set_paused(paused=True)
        await append(bench.outbox, "e1", "e2")
        await wait_all_tasks_blocked()
        first = (await waiting(bench.outbox))[0]
        await bench.outbox.database.execute(
            "DELETE FROM events WHERE seq = :seq", {"seq": first.seq}
        )
        bench.delivery.breaker.set_paused(paused=False)
        await amplitude.until(lambda: amplitude.accepted == ["e2"])
        await append(bench.outbox, "e3")
        await amplitude.until(lambda: amplitude.accepted == ["e2", "e3"])
        with anyio.fail_after(2):
            while bench.delivery.dispatcher.in_flight:
                await bench.outbox.database.flush()


async def test_a_full_batch_does_not_linger(tmp_path: Path) -> None:
    """The linger is only for partial batches."""
    amplitude = ScriptedAmplitude()
    async with running_delivery(tmp_path, amplitude, replace(SETUP, linger_s=60.0)) as bench:
        now_ms = bench.clock.now_ms()
        await append(bench.outbox, *(f"e{number}" for number in range(9)), at_ms=now_ms)
        await wait_all_tasks_blocked()
        assert amplitude.uploads == []
        await append(bench.outbox, "e9", at_ms=now_ms)
        await bench.settled(10)
        assert len(amplitude.uploads) == 1


# The dispatcher under cancellation: a sender wakes every few seconds, wherever it is.


def _dispatcher(outbox: Outbox, clock: FakeClock) -> Dispatcher:
    return make_delivery(outbox, ScriptedAmplitude(), Meter(), clock).dispatcher


async def _give_up_taking(outbox: Outbox, dispatcher: Dispatcher) -> None:
    """Let a sender read what is pending and be cancelled while it waits for the disk."""
    async with busy_reader(outbox), anyio.create_task_group() as group:
        group.start_soon(dispatcher.next_batch)
        await wait_all_tasks_blocked()
        group.cancel_scope.cancel()


async def _take(dispatcher: Dispatcher) -> list[Waiting]:
    with anyio.fail_after(2):
        return await dispatcher.next_batch()


async def test_a_cancelled_read_leaves_nothing_unread(tmp_path: Path) -> None:
    """The next read finds what the cancelled one was about to read."""
    async with running_outbox(tmp_path) as outbox:
        dispatcher = _dispatcher(outbox, FakeClock())
        await append(outbox, "e1")
        await _give_up_taking(outbox, dispatcher)
        assert len(await _take(dispatcher)) == 1


async def test_a_cancelled_read_of_a_held_key_loses_nothing(
    tmp_path: Path,
) -> None:
    """Events whose hold is over are not lost when their reading is cancelled."""
    clock = FakeClock()
    async with running_outbox(tmp_path) as outbox:
        dispatcher = _dispatcher(outbox, clock)
        await append(outbox, "e1")
        claim = await dispatcher.claim(await _take(dispatcher))
        (event,) = claim.events
        tried = event._replace(first_tried_at=clock.now_ms(), attempts=1)
        dispatcher.defer(tried, frozenset({"d:device-1"}), 30.0)
        await outbox.claims.settle(claim, Settlement(released=[tried]), clock.now_ms())
        dispatcher.finish(claim, [tried])
        clock.advance(31)
        await _give_up_taking(outbox, dispatcher)
        assert await _take(dispatcher) == [tried]


async def test_a_claim_that_cannot_be_recorded_is_pending_again(tmp_path: Path) -> None:
    """Without space for the record nothing is uploaded and nothing is lost."""
    async with running_outbox(tmp_path) as outbox:
        dispatcher = _dispatcher(outbox, FakeClock())
        await append(outbox, *_on("a", "e1", "e2"), *_on("b", "e3"))
        events = await _take(dispatcher)
        await limit_pages(outbox, 1)
        await _fill_up(outbox, events)
        with pytest.raises(StoreFull):
            await dispatcher.claim(events)
        assert await _take(dispatcher) == events
        assert dispatcher.in_flight == 0


async def _fill_up(outbox: Outbox, events: list[Waiting]) -> None:
    """Record claims until there is no space for another."""
    with suppress(StoreFull):
        for _ in range(10_000):
            await outbox.claims.open(1, events, 0)
