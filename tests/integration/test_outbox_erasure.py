"""A user is erased from the outbox, and every event stays accounted for."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import anyio
import orjson
import pytest

from relay.amplitude.verdicts import UploadReply
from relay.events.batch import IngestBatch, QuarantinedBody
from relay.events.mapping import MappedEvent
from relay.outbox.claims import Claim, DeadLettered, Settlement, Waiting
from relay.outbox.selection import Selection
from relay.outbox.store import DATABASE_NAME, Outbox
from tests.support.clocks import START_MS
from tests.support.deliveries import ACCEPTED, ScriptedAmplitude, Upload, answer, running_delivery
from tests.support.outboxes import (
    APP,
    OTHER,
    append,
    census,
    counts,
    mapped,
    running_outbox,
    waiting,
)

USER = 'anna "ä" o/k'
ALL = Selection()


def _of(name: str, user: str = USER) -> MappedEvent:
    return mapped(name, user_id=user, device_id=f"device-of-{name}")


def _refused(name: str, user: str) -> MappedEvent:
    """Return an event whose user id Amplitude refuses: it is only in the properties."""
    event = {
        "event_type": "[OneSignal] Push Clicked",
        "device_id": f"device-of-{name}",
        "insert_id": name,
        "time": START_MS,
        "event_properties": {"Distinct ID": user, "source": "onesignal"},
    }
    body = orjson.dumps(event)
    return MappedEvent(name, f"device-of-{name}", None, str(event["event_type"]), START_MS, body)


async def _claim(outbox: Outbox) -> Claim:
    events = await waiting(outbox)
    return await outbox.claims.open(outbox.counters.number(APP), events, START_MS)


async def _forget(outbox: Outbox, user: str = USER, app: str = APP) -> int:
    return await outbox.erasure.remove(outbox.counters.number(app), user)


async def _sums(outbox: Outbox) -> tuple[int, int, int, int]:
    """Return an app's pending, delivered, dead and discarded events once they add up."""
    found = await counts(outbox)
    sums = (found.pending, found.delivered, found.dead, found.discarded)
    assert found.accepted == sum(sums)
    return sums


def _rows(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{folder / DATABASE_NAME}?mode=ro", uri=True)) as raw:
        return int(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_pending_events_are_discarded_and_counted_so(tmp_path: Path) -> None:
    """Those of other users stay, also of the same device."""
    async with running_outbox(tmp_path) as outbox:
        shared = mapped("b", user_id="ben", device_id="device-of-a")
        await append(outbox, _of("a"), shared, _of("c"))
        await append(outbox, _of("d"), app=OTHER)
        assert await _forget(outbox) == 2
        assert census(tmp_path).pending == ["b"]
        assert await _sums(outbox) == (1, 0, 0, 2)
        assert outbox.counters.pending == 2
        assert (await counts(outbox, OTHER)).pending == 1
        assert await _forget(outbox) == 0
    async with running_outbox(tmp_path) as outbox:
        assert await _sums(outbox) == (1, 0, 0, 2)


async def test_dead_letters_are_discarded(tmp_path: Path) -> None:
    """They cannot be retried any more."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, _of("a"), mapped("b", user_id="ben"))
        claim = await _claim(outbox)
        deaths = [DeadLettered(event, "rejected", "400") for event in claim.events]
        await outbox.claims.settle(claim, Settlement(dead=deaths), START_MS)
        assert await _forget(outbox) == 1
        assert census(tmp_path).dead == ["b"]
        assert await _sums(outbox) == (0, 0, 1, 1)
        assert await outbox.dead_letters.retry(ALL) == 1
        assert await _sums(outbox) == (1, 0, 0, 1)


async def test_delivered_rows_not_yet_pruned_are_removed_too(tmp_path: Path) -> None:
    """They stay counted as delivered."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, _of("a"), mapped("b", user_id="ben"))
        claim = await _claim(outbox)
        await outbox.claims.settle(claim, Settlement(delivered=claim.events), START_MS)
        assert census(tmp_path).delivered == ["a", "b"]
        assert await _forget(outbox) == 1
        assert census(tmp_path).delivered == ["b"]
        assert await _sums(outbox) == (0, 2, 0, 0)
        await outbox.retention.flush()
        while await outbox.retention.prune():
            pass
        assert _rows(tmp_path, "events") == 0
        assert await _sums(outbox) == (0, 2, 0, 0)


async def test_a_sequence_number_of_an_erased_event_is_never_reused(tmp_path: Path) -> None:
    """Until it is pruned, the receipt names the event's sequence number."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, _of("a"))
        claim = await _claim(outbox)
        await outbox.claims.settle(claim, Settlement(delivered=claim.events), START_MS)
        assert await _forget(outbox) == 1
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, mapped("b", user_id="ben"))
        assert len(await waiting(outbox)) == 1
        await outbox.retention.flush()
        while await outbox.retention.prune():
            pass
        assert census(tmp_path).pending == ["b"]
        assert await _sums(outbox) == (1, 1, 0, 0)


async def test_attempts_of_an_erased_event_are_removed(tmp_path: Path) -> None:
    """Its attempts would count for another event."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, _of("a"))
        claim = await _claim(outbox)
        tried = [event._replace(first_tried_at=START_MS, attempts=1) for event in claim.events]
        await outbox.claims.settle(claim, Settlement(released=tried), START_MS)
        assert await _forget(outbox) == 1
        assert _rows(tmp_path, "tries") == 0


@pytest.mark.parametrize("user", ["none", "NA", "0", "x" * 1_025, USER])
async def test_an_id_that_amplitude_refuses_is_found_in_the_properties(
    tmp_path: Path, user: str
) -> None:
    """In pending events and dead letters; a user with a similar id stays."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, _refused("dead", user))
        claim = await _claim(outbox)
        deaths = [DeadLettered(event, "rejected", "400") for event in claim.events]
        await outbox.claims.settle(claim, Settlement(dead=deaths), START_MS)
        await append(outbox, _refused("pending", user), _refused("other", f"{user}!"))
        assert await _forget(outbox, user) == 2
        assert (census(tmp_path).pending, census(tmp_path).dead) == (["other"], [])
        assert await _sums(outbox) == (1, 0, 0, 2)


async def test_an_id_in_a_text_is_no_user(tmp_path: Path) -> None:
    """A user's name in a message does not make the event that user's."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, _refused("a", "none"), mapped("b", user_id="ben"))
        assert await _forget(outbox, "onesignal") == 0
        assert await _forget(outbox, "[OneSignal] Push Clicked") == 0


BODIES = [
    ('{"event":{"external_id":"jürgen"}}', "jürgen"),
    ('{"event":{"external_id":"j\\u00fcrgen"}}', "jürgen"),
    ('{"event":{"external_id":"j\\u00FCrgen"}}', "jürgen"),
    ('{"event":{"external_id":"😀"}}', "😀"),
    ('{"event":{"external_id":"\\ud83d\\ude00"}}', "😀"),
    ('{"event":{"external_id":"a/b"}}', "a/b"),
    ('{"event":{"external_id":"a\\/b"}}', "a/b"),
    ('{"event":{"external_id":"a\\"b"}}', 'a"b'),
    ('{"event":{"external_id":12345}}', "12345"),
    ('{"users":[{"user_id":"jürgen"}],"cut', "jürgen"),
]


@pytest.mark.parametrize(("body", "user"), BODIES)
async def test_a_quarantined_body_is_removed_however_it_spells_the_id(
    tmp_path: Path, body: str, user: str
) -> None:
    """An invalid body can still be parsed; JSON has several spellings of a text."""
    async with running_outbox(tmp_path) as outbox:
        for app in (APP, OTHER):
            batch = IngestBatch(outbox.counters.number(app), START_MS)
            for text in (body, '{"event":{"external_id":"somebody else"}}'):
                batch.quarantined.append(
                    QuarantinedBody("events", "unknown_kind", "?", text.encode())
                )
            await outbox.writer.append(batch)
        await _forget(outbox, user)
        left = await outbox.quarantine.page(ALL, after=0, limit=10)
        assert [(item.app, b"somebody else" in item.body) for item in left] == [
            (APP, True),
            (OTHER, False),
            (OTHER, True),
        ]
        assert (await counts(outbox)).quarantined == 2


Settle = Callable[[Claim], Settlement]


def _tried(events: Sequence[Waiting]) -> list[Waiting]:
    return [event._replace(first_tried_at=START_MS, attempts=1) for event in events]


def _deaths(events: Sequence[Waiting]) -> list[DeadLettered]:
    return [DeadLettered(event, "rejected", "400") for event in events]


@pytest.mark.parametrize(
    ("settle", "sums"),
    [
        (lambda claim: Settlement(delivered=claim.events), (0, 2, 0, 1)),
        (lambda claim: Settlement(dead=_deaths(claim.events)), (0, 0, 2, 1)),
        (lambda claim: Settlement(released=_tried(claim.events)), (2, 0, 0, 1)),
        (
            lambda claim: Settlement(delivered=claim.events[::2], vanished=claim.events[1:2]),
            (0, 2, 0, 1),
        ),
        (
            lambda claim: Settlement(
                delivered=claim.events[:1],
                dead=_deaths(claim.events[1:2]),
                released=_tried(claim.events[2:]),
            ),
            (1, 1, 0, 1),
        ),
    ],
)
async def test_a_claimed_event_is_counted_once(
    tmp_path: Path, settle: Settle, sums: tuple[int, int, int, int]
) -> None:
    """Whatever its upload's outcome, the event counts as discarded, and nothing of it is left."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, mapped("a", user_id="ben"), _of("b"), mapped("c", user_id="cleo"))
        claim = await _claim(outbox)
        assert await _forget(outbox) == 1
        await outbox.claims.settle(claim, settle(claim), START_MS)
        assert await _sums(outbox) == sums
        assert outbox.counters.pending == sums[0]
        assert (_rows(tmp_path, "claims"), _rows(tmp_path, "tries")) == (0, sums[0])
    async with running_outbox(tmp_path) as outbox:
        assert await _sums(outbox) == sums
        assert len(await waiting(outbox)) == sums[0]


async def test_a_crash_after_erasing_a_claimed_event_loses_no_count(tmp_path: Path) -> None:
    """The claim of the previous process names a row that is gone."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, _of("a"), mapped("b", user_id="ben"))
        await _claim(outbox)
        await _forget(outbox)
    async with running_outbox(tmp_path) as outbox:
        assert await _sums(outbox) == (1, 0, 0, 1)
        (event,) = await waiting(outbox)
        assert event.attempts == 1
        claim = await _claim(outbox)
        await outbox.claims.settle(claim, Settlement(delivered=claim.events), START_MS)
        assert await _sums(outbox) == (0, 1, 0, 1)


@pytest.mark.parametrize("first", [ACCEPTED, answer(500), answer(429), answer(400), answer(413)])
async def test_an_event_erased_during_its_upload_is_not_uploaded_again(
    tmp_path: Path, first: UploadReply
) -> None:
    """Amplitude may have it; relay counts it as discarded and continues."""
    replies = [first]

    def script(_: Upload) -> UploadReply:
        return replies.pop() if replies else ACCEPTED

    amplitude = ScriptedAmplitude(script)
    amplitude.may_answer = anyio.Event()
    async with running_delivery(tmp_path, amplitude) as bench:
        await append(
            bench.outbox, mapped("a", user_id="ben"), _of("b"), mapped("c", user_id="cleo")
        )
        await amplitude.until(lambda: len(amplitude.uploads) == 1)
        assert await _forget(bench.outbox) == 1
        amplitude.may_answer.set()
        await bench.settled(2)
        assert await _sums(bench.outbox) == (0, 2, 0, 1)
        assert all(
            event["insert_id"] != "b" for upload in amplitude.uploads[1:] for event in upload
        )
        await append(bench.outbox, mapped("d", user_id="ben"))
        await bench.settled(3)
        assert await _sums(bench.outbox) == (0, 3, 0, 1)


async def test_many_events_are_erased_in_short_transactions(tmp_path: Path) -> None:
    """Years of a user's events are erased completely."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, *(_of(f"e{number:04}") for number in range(1_200)), mapped("b"))
        assert await _forget(outbox) == 1_200
        assert await _sums(outbox) == (1, 0, 0, 1_200)
