"""The outbox on real files: accepted events are never lost, duplicated or miscounted."""

import random
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import anyio
import orjson
import pytest
from anyio import wait_all_tasks_blocked

from relay.clock import DAY_MS
from relay.errors import StoreBusy, StoreFailed, StoreFull
from relay.events.batch import IngestBatch, QuarantinedBody
from relay.events.catalog import parse_selection
from relay.events.mapping import MappingPolicy
from relay.events.records import MessageFields
from relay.heartbeat import Heartbeat
from relay.http.admin.quarantine import answer_bodies
from relay.ingest.events import EventIngest, Source
from relay.maintenance import Maintenance, MaintenancePolicy
from relay.outbox.claims import Claim, DeadLettered, Settlement
from relay.outbox.counters import Counts
from relay.outbox.dedup import dedup_key
from relay.outbox.quarantine import PAGE_BYTES, is_full
from relay.outbox.retention import MESSAGE_DAYS, SEEN_DAYS, FlushPolicy
from relay.outbox.selection import CHUNK, Selection
from relay.outbox.sql import SQL
from relay.outbox.store import DATABASE_NAME, LOCK_NAME, Outbox, lock_folder
from relay.outbox.writer import AppendResult
from tests.support.clocks import START_MS, FakeClock
from tests.support.disks import crash_copy
from tests.support.outboxes import (
    APP,
    OTHER,
    append,
    busy_reader,
    busy_writer,
    census,
    counts,
    limit_pages,
    mapped,
    running_outbox,
    waiting,
)
from tests.unit.events.bodies import APP_ID, PUSH_CLICKED

ALL = Selection()
TODAY = START_MS // DAY_MS


def _ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:05}" for number in range(count)]


async def _claim(outbox: Outbox, limit: int = 1_000_000) -> Claim:
    events = (await waiting(outbox))[:limit]
    return await outbox.claims.open(outbox.counters.number(APP), events, START_MS)


async def _deliver(outbox: Outbox, limit: int = 1_000_000) -> None:
    claim = await _claim(outbox, limit)
    await outbox.claims.settle(claim, Settlement(delivered=claim.events), START_MS)


async def _kill(outbox: Outbox, reason: str = "rejected") -> None:
    claim = await _claim(outbox)
    deaths = [DeadLettered(event, reason, "400 No") for event in claim.events]
    await outbox.claims.settle(claim, Settlement(dead=deaths), START_MS)


async def _tidy(outbox: Outbox, today: int = TODAY) -> None:
    await outbox.retention.flush()
    while await outbox.retention.prune():
        pass
    while await outbox.retention.expire(today):
        pass


def _tables(folder: Path) -> dict[str, int]:
    names = ("events", "seen", "seen_days", "claims", "receipts", "tries", "dead_letters")
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as raw:
        return {name: raw.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


# Appending.


async def test_an_answered_event_survives_a_power_cut(tmp_path: Path) -> None:
    """The rows are on disk before the response."""
    async with running_outbox(tmp_path / "a") as outbox:
        assert await append(outbox, "e1", "e2") == AppendResult(accepted=2, duplicate=0)
        copy = crash_copy(tmp_path / "a", tmp_path / "b")
    async with running_outbox(copy) as outbox:
        assert [event.seq for event in await waiting(outbox)] == [1, 2]
        assert await outbox.claims.read_bodies([2, 1]) == b",".join(
            mapped(name).body for name in ("e2", "e1")
        )
        assert (await counts(outbox)).accepted == 2


async def test_a_database_behind_a_link_survives_a_power_cut(tmp_path: Path) -> None:
    """Its log is beside the file, not beside the link."""
    disk, folder = tmp_path / "disk", tmp_path / "data"
    disk.mkdir()
    folder.mkdir()
    (folder / DATABASE_NAME).symlink_to(disk / DATABASE_NAME)
    async with running_outbox(folder) as outbox:
        await append(outbox, "a", "b")
        shutil.copytree(tmp_path / "disk", tmp_path / "cut")
    shutil.rmtree(disk)
    (tmp_path / "cut").rename(disk)
    async with running_outbox(folder) as outbox:
        assert len(await waiting(outbox)) == 2
    assert not [path for path in tmp_path.rglob("*") if "damaged" in path.name]


async def test_many_requests_share_few_commits(tmp_path: Path) -> None:
    """Requests that wait for the same sync are stored by one."""
    async with running_outbox(tmp_path) as outbox:
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as other:
            versions = set()

            async def one(number: int) -> None:
                await append(outbox, f"e{number}")
                versions.add(other.execute("PRAGMA data_version").fetchone())

            async with anyio.create_task_group() as group:
                for number in range(500):
                    group.start_soon(one, number)
        assert (await counts(outbox)).accepted == 500
        assert len(versions) <= 3


async def test_bytes_and_ids_are_stored_unchanged(tmp_path: Path) -> None:
    """Any characters in an id are stored and read back exactly."""
    names = ['"', "\\", "\n", "ä", "😀", "null", "12", "1e5", "[]", "\x1f", "\x7f", "\u2028", " "]
    async with running_outbox(tmp_path) as outbox:
        events = [mapped(f"e{name}", device_id=name, user_id=f"{name}!") for name in names]
        await append(outbox, *events)
        stored = await waiting(outbox)
        assert [(event.device_id, event.user_id) for event in stored] == [
            (name, f"{name}!") for name in names
        ]
        assert [event.size_bytes for event in stored] == [len(event.body) for event in events]
        bodies = await outbox.claims.read_bodies([event.seq for event in stored])
        assert bodies == b",".join(event.body for event in events)


async def test_an_event_without_device_is_ordered_by_its_user(tmp_path: Path) -> None:
    """The ordering key is the device, or the user where there is none."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, mapped("a", device_id=None), mapped("b", user_id=None), mapped("c"))
        keys = [event.ordering_key for event in await waiting(outbox)]
        assert keys == ["u:user-1", "d:device-1", "d:device-1"]


async def test_apps_do_not_share_ids_or_counts(tmp_path: Path) -> None:
    """The same event id of two apps is two events."""
    async with running_outbox(tmp_path) as outbox:
        assert (await append(outbox, "e1", app=APP)).accepted == 1
        assert (await append(outbox, "e1", app=OTHER)).accepted == 1
        assert len(await waiting(outbox, APP)) == len(await waiting(outbox, OTHER)) == 1


async def test_what_came_beside_events_is_counted_and_kept(tmp_path: Path) -> None:
    """Filtered and quarantined events count apart from accepted ones."""
    async with running_outbox(tmp_path) as outbox:
        body = QuarantinedBody("events", "unknown_kind", "No such kind.", b"\xff{")
        await outbox.writer.append(
            IngestBatch(1, START_MS, [mapped("e1"), mapped("e1")], filtered=3, quarantined=[body])
        )
        assert await counts(outbox) == Counts(accepted=1, duplicate=1, filtered=3, quarantined=1)
        (kept,) = await outbox.quarantine.page(ALL, after=0, limit=10)
        assert (kept.app, kept.hook, kept.body) == (APP, "events", b"\xff{")
        assert (kept.reason, kept.received_at) == ("unknown_kind", START_MS)


async def test_an_empty_batch_is_answered(tmp_path: Path) -> None:
    """`[]` stores nothing and is no error."""
    async with running_outbox(tmp_path) as outbox:
        assert await append(outbox) == AppendResult(0, 0)


async def test_a_batch_larger_than_the_memory_limit_is_accepted_alone(tmp_path: Path) -> None:
    """The limit applies to waiting requests, not to a single one."""
    async with running_outbox(tmp_path) as outbox:
        body = QuarantinedBody("events", "broken_json", "", bytes(4 << 20))
        await outbox.writer.append(IngestBatch(1, START_MS, quarantined=[body]))
        assert outbox.writer.waiting_bytes == 0


# Deduplication.


async def test_a_repetition_within_one_body_is_recognised(tmp_path: Path) -> None:
    """OneSignal may put the same event into one array twice."""
    async with running_outbox(tmp_path) as outbox:
        assert await append(outbox, "e1", "e2", "e1") == AppendResult(accepted=2, duplicate=1)


async def test_a_repetition_within_one_commit_is_recognised(tmp_path: Path) -> None:
    """Two concurrent deliveries are one event, accepted once."""
    taken: list[AppendResult] = []
    async with running_outbox(tmp_path) as outbox:

        async def one() -> None:
            taken.append(await append(outbox, "e1", "e2"))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one)
        assert sum(answer.accepted for answer in taken) == 2
        assert sum(answer.duplicate for answer in taken) == 38
        assert await counts(outbox) == Counts(accepted=2, duplicate=38)


@pytest.mark.parametrize("is_flushed", [False, True])
@pytest.mark.parametrize("fate", ["pending", "delivered", "pruned", "dead", "discarded", "retried"])
@pytest.mark.parametrize("ending", ["none", "close", "crash"])
async def test_a_repetition_is_recognised_whatever_the_event_s_outcome(
    tmp_path: Path, fate: str, ending: str, *, is_flushed: bool
) -> None:
    """Also after delivery, pruning, dead-lettering, discard, retry, a restart and a crash."""
    folder = tmp_path / "a"
    async with running_outbox(folder) as outbox:
        await append(outbox, "e1", "e2")
        if is_flushed:
            await outbox.retention.flush()
        if fate in {"delivered", "pruned"}:
            await _deliver(outbox)
        if fate == "pruned":
            await _tidy(outbox)
        if fate in {"dead", "discarded", "retried"}:
            await _kill(outbox)
        if fate == "discarded":
            await outbox.dead_letters.discard(ALL)
        if fate == "retried":
            await outbox.dead_letters.retry(ALL)
        if ending == "none":
            assert await append(outbox, "e1", "e2", "e3") == AppendResult(accepted=1, duplicate=2)
        if ending == "crash":
            folder = crash_copy(folder, tmp_path / "b")
    if ending != "none":
        async with running_outbox(folder) as outbox:
            assert await append(outbox, "e1", "e2", "e3") == AppendResult(accepted=1, duplicate=2)


async def test_a_key_is_remembered_for_its_days_and_then_forgotten(tmp_path: Path) -> None:
    """For 30 days after acceptance a repetition is a duplicate, later a new event."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1")
        await _deliver(outbox)
        await _tidy(outbox, TODAY + SEEN_DAYS)
        later = START_MS + SEEN_DAYS * DAY_MS
        assert (await append(outbox, "e1", at_ms=later)).duplicate == 1
        await _tidy(outbox, TODAY + SEEN_DAYS + 1)
        assert (await append(outbox, "e1", at_ms=later + DAY_MS)).accepted == 1
        assert _tables(tmp_path)["seen_days"] == 0


async def test_an_accepted_key_survives_a_running_flush(tmp_path: Path) -> None:
    """Repetitions during a flush to disk are deduplicated all the same."""
    async with running_outbox(tmp_path) as outbox:
        ids = _ids("e", 3_000)
        await append(outbox, *ids)
        taken: list[AppendResult] = []

        async def repeat() -> None:
            chosen = ids[:: len(ids) // 50]
            taken.extend([await append(outbox, name, f"new {name}") for name in chosen])

        async with anyio.create_task_group() as group:
            group.start_soon(outbox.retention.flush)
            group.start_soon(repeat)
        assert {(answer.accepted, answer.duplicate) for answer in taken} == {(1, 1)}
        await outbox.retention.flush()
        assert await append(outbox, *ids) == AppendResult(0, 3_000)


async def test_a_crash_within_a_flush_repeats_it(tmp_path: Path) -> None:
    """Keys flushed twice, or half, are stored once."""
    async with running_outbox(tmp_path / "a") as outbox:
        await append(outbox, *_ids("e", 5_000))
        async with anyio.create_task_group() as group:
            group.start_soon(outbox.retention.flush)
            await wait_all_tasks_blocked()
            copy = crash_copy(tmp_path / "a", tmp_path / "b")
    async with running_outbox(copy) as outbox:
        await outbox.retention.flush()
        assert await append(outbox, *_ids("e", 5_000)) == AppendResult(0, 5_000)


def test_keys_differ_by_app_and_id() -> None:
    """An id that looks like another app's stays separate."""
    keys = {dedup_key(app, name) for app in (1, 11) for name in ("1:a", "a", "1a", ":a")}
    assert len(keys) == 8


# Claiming and settling.


async def test_a_settled_claim_is_closed_and_pruned(tmp_path: Path) -> None:
    """Only the dedup key of a delivered event remains."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, *_ids("e", 700))
        await _deliver(outbox)
        assert _tables(tmp_path)["events"] == 700
        await _tidy(outbox)
        left = {name: rows for name, rows in _tables(tmp_path).items() if rows}
        assert left == {"seen": 700, "seen_days": 1}
        assert await counts(outbox) == Counts(accepted=700, delivered=700)
        assert outbox.counters.pending == 0


async def test_nothing_is_pruned_whose_key_is_not_remembered_elsewhere(tmp_path: Path) -> None:
    """A delivered row stays until its key is flushed, or a crash would lose the key."""
    async with running_outbox(tmp_path / "a") as outbox:
        await append(outbox, "e1")
        await _deliver(outbox)
        assert not await outbox.retention.prune()
        copy = crash_copy(tmp_path / "a", tmp_path / "b")
    async with running_outbox(copy) as outbox:
        assert await append(outbox, "e1") == AppendResult(0, 1)


async def test_a_claim_stays_open_until_all_of_it_is_settled(tmp_path: Path) -> None:
    """What is not settled stays claimed, for a crash to find."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1", "e2", "e3")
        claim = await _claim(outbox)
        first, second, third = claim.events
        now_ms = START_MS
        await outbox.claims.settle(claim, Settlement(delivered=[first]), now_ms)
        claim.left -= 1
        assert _tables(tmp_path)["claims"] == 1
        tried = second._replace(first_tried_at=now_ms, attempts=1)
        settlement = Settlement(
            dead=[DeadLettered(third, "invalid_field", "400 No")], released=[tried]
        )
        await outbox.claims.settle(claim, settlement, now_ms)
        assert _tables(tmp_path)["claims"] == 0
        assert census(tmp_path).dead == ["e3"]
        assert census(tmp_path).pending == ["e2"]
        (again,) = await outbox.claims.read_named([2])
        assert again == tried


async def test_a_crash_returns_claimed_events_with_their_attempts(tmp_path: Path) -> None:
    """A claimed event counts as tried since the claim, as often as recorded."""
    async with running_outbox(tmp_path / "a") as outbox:
        await append(outbox, *_ids("e", 5))
        claim = await _claim(outbox, 4)
        first = claim.events[0]
        await outbox.claims.count_attempt(claim)
        await outbox.claims.settle(claim, Settlement(delivered=[first]), START_MS)
        copy = crash_copy(tmp_path / "a", tmp_path / "b")
    async with running_outbox(copy) as outbox:
        found = [
            (event.seq, event.first_tried_at, event.attempts) for event in await waiting(outbox)
        ]
        assert found == [(seq, START_MS, 2) for seq in (2, 3, 4)] + [(5, None, 0)]
        assert await counts(outbox) == Counts(accepted=5, delivered=1)
        assert outbox.counters.pending == 4
        assert _tables(copy)["claims"] == 0


async def test_tries_add_up_over_crashes_and_keep_their_first(tmp_path: Path) -> None:
    """An event's age counts from its very first upload."""
    folder = tmp_path / "0"
    for crash in range(1, 4):
        async with running_outbox(folder) as outbox:
            await append(outbox, "e1")
            events = await waiting(outbox)
            await outbox.claims.open(1, events, START_MS + crash)
            folder = crash_copy(folder, tmp_path / str(crash))
    async with running_outbox(folder) as outbox:
        (event,) = await waiting(outbox)
        assert (event.first_tried_at, event.attempts) == (START_MS + 1, 3)


async def test_delivered_events_do_not_come_back_after_a_crash(tmp_path: Path) -> None:
    """A receipt counts although its rows still exist."""
    async with running_outbox(tmp_path / "a") as outbox:
        await append(outbox, "e1", "e2", "e3")
        await _deliver(outbox, 2)
        copy = crash_copy(tmp_path / "a", tmp_path / "b")
    async with running_outbox(copy) as outbox:
        assert [event.seq for event in await waiting(outbox)] == [3]
        await _tidy(outbox)
        assert _tables(copy)["events"] == 1


async def test_sequence_numbers_are_never_given_twice_while_they_matter(tmp_path: Path) -> None:
    """After pruning everything, new events still follow the recorded ones."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1", "e2")
        await _deliver(outbox)
        await _tidy(outbox)
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e3")
        assert [event.seq for event in await waiting(outbox)] == [3]
        await outbox.retention.flush()
        await _deliver(outbox)
        await _tidy(outbox)
        assert _tables(tmp_path)["events"] == 0


async def test_a_dead_letter_s_id_is_never_reused(tmp_path: Path) -> None:
    """An id an operator noted never means another event."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1")
        await _kill(outbox)
        await outbox.dead_letters.discard(ALL)
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e2")
        await _kill(outbox)
        (dead_letter,) = await outbox.dead_letters.page(ALL, after=0, limit=10)
        assert dead_letter.id != 1


# Dead letters.


async def test_a_dead_letter_has_all_details(tmp_path: Path) -> None:
    """Reason, detail, attempts and the event."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1")
        claim = await _claim(outbox)
        tried = claim.events[0]._replace(first_tried_at=START_MS + 5, attempts=3)
        death = DeadLettered(tried, "invalid_field", "400 Words (time)")
        await outbox.claims.settle(claim, Settlement(dead=[death]), START_MS + 9)
        (dead_letter,) = await outbox.dead_letters.page(ALL, after=0, limit=10)
        assert (dead_letter.app, dead_letter.insert_id, dead_letter.attempts) == (APP, "e1", 3)
        assert (dead_letter.reason, dead_letter.detail) == ("invalid_field", "400 Words (time)")
        assert (dead_letter.accepted_at, dead_letter.first_tried_at) == (START_MS, START_MS + 5)
        assert dead_letter.died_at == START_MS + 9
        assert dead_letter.body == mapped("e1").body
        assert dead_letter.event_type == orjson.loads(dead_letter.body)["event_type"]


async def test_dead_letters_come_in_pages_by_app_and_reason(tmp_path: Path) -> None:
    """Every dead letter is on exactly one page."""
    async with running_outbox(tmp_path) as outbox:
        for reason in ("rejected", "silenced"):
            await append(outbox, *_ids(reason, 7))
            await _kill(outbox, reason)
        seen, after = [], 0
        while page := await outbox.dead_letters.page(ALL, after=after, limit=3):
            seen += [dead_letter.insert_id for dead_letter in page]
            after = page[-1].id
        assert seen == _ids("rejected", 7) + _ids("silenced", 7)
        silenced = await outbox.dead_letters.page(
            Selection(app=1, reason="silenced"), after=0, limit=99
        )
        assert [dead_letter.reason for dead_letter in silenced] == ["silenced"] * 7
        assert await outbox.dead_letters.page(Selection(app=2), after=0, limit=99) == []


async def test_a_retried_dead_letter_is_pending_untried_and_last(tmp_path: Path) -> None:
    """It is sent again like a new event, with the same bytes."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1", "e2")
        claim = await _claim(outbox, 1)
        tried = claim.events[0]._replace(first_tried_at=START_MS, attempts=4)
        settlement = Settlement(dead=[DeadLettered(tried, "expired", "")])
        await outbox.claims.settle(claim, settlement, START_MS)
        assert await outbox.dead_letters.retry(Selection(ids=(1,))) == 1
        events = await waiting(outbox)
        assert [(event.seq > 1, event.attempts) for event in events] == [(True, 0), (True, 0)]
        assert census(tmp_path).pending == ["e2", "e1"]
        assert await counts(outbox) == Counts(accepted=2)
        assert outbox.counters.pending == 2


async def test_more_dead_letters_than_fit_a_transaction_are_all_moved(tmp_path: Path) -> None:
    """Short transactions, one result."""
    async with running_outbox(tmp_path) as outbox:
        many = 2 * CHUNK + 7
        await append(outbox, *_ids("e", many))
        await _kill(outbox)
        assert await outbox.dead_letters.count(ALL) == many
        assert await outbox.dead_letters.retry(ALL) == many
        assert outbox.counters.pending == many
        assert await counts(outbox) == Counts(accepted=many)
        await _kill(outbox)
        assert await outbox.dead_letters.discard(ALL) == many
        assert await counts(outbox) == Counts(accepted=many, discarded=many)


async def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    """Missing ids are not counted."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1", "e2")
        await _kill(outbox)
        before = census(tmp_path)
        assert await outbox.dead_letters.count(Selection(ids=(2, 2, 99, -1))) == 1
        assert await outbox.dead_letters.count(Selection(ids=())) == 0
        assert census(tmp_path) == before


async def test_concurrent_retries_move_a_dead_letter_once(tmp_path: Path) -> None:
    """The second action finds nothing; the counts stay correct."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, *_ids("e", 900))
        await _kill(outbox)
        moved: list[int] = []

        async def act(number: int) -> None:
            action = (outbox.dead_letters.retry, outbox.dead_letters.discard)[number % 2]
            moved.append(await action(ALL))

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(act, number)
        assert sum(moved) == 900
        found = await counts(outbox)
        assert found.dead == 0
        assert found.pending == len(census(tmp_path).pending) == outbox.counters.pending


async def test_memory_follows_a_cancelled_retry(tmp_path: Path) -> None:
    """A caller cancelled halfway leaves memory and disk in agreement."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, *_ids("e", 3 * CHUNK))
        await _kill(outbox)
        async with busy_writer(outbox), anyio.create_task_group() as group:
            group.start_soon(outbox.dead_letters.retry, ALL)
            await wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        await outbox.database.flush()
        assert (await counts(outbox)).pending > 0
        assert outbox.counters.pending == (await counts(outbox)).pending


# Quarantine and messages.


async def test_quarantined_bodies_are_selected_and_removed(tmp_path: Path) -> None:
    """By id or by reason; the total stays counted."""
    async with running_outbox(tmp_path) as outbox:
        bodies = [
            QuarantinedBody(
                "events", ("broken_json", "foreign_app")[number % 2], "", bytes([number])
            )
            for number in range(10)
        ]
        await outbox.writer.append(IngestBatch(1, START_MS, quarantined=bodies))
        assert await outbox.quarantine.count(Selection(reason="foreign_app")) == 5
        assert await outbox.quarantine.discard(Selection(reason="foreign_app")) == 5
        assert await outbox.quarantine.discard(Selection(reason="foreign_app")) == 0
        assert await outbox.quarantine.remove([1, 1, 99]) == 1
        assert await outbox.quarantine.remove([]) == 0
        left = await outbox.quarantine.page(ALL, after=0, limit=99)
        assert [body.body for body in left] == [bytes([number]) for number in (2, 4, 6, 8)]
        named = outbox.quarantine.named([1, 3, 5])
        assert [body.id async for body in named] == [3, 5]
        assert (await counts(outbox)).quarantined == 10


async def test_large_bodies_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    """A thousand of the largest would not fit into a small server's memory."""
    async with running_outbox(tmp_path) as outbox:
        large = QuarantinedBody("events", "broken_json", "", bytes(PAGE_BYTES // 4))
        for _ in range(6):
            await outbox.writer.append(IngestBatch(1, START_MS, quarantined=[large]))
        page = await outbox.quarantine.page(ALL, after=0, limit=1001)
        assert (len(page), is_full(page)) == (4, True)
        shown = answer_bodies(page, 1000)
        assert shown.next == 4
        rest = await outbox.quarantine.page(ALL, after=4, limit=1001)
        assert answer_bodies(rest, 1000).next is None
        assert [body.id async for body in outbox.quarantine.named([*range(1, 9)])] == [*range(1, 7)]


async def test_a_quarantine_id_is_never_used_again(tmp_path: Path) -> None:
    """An id an operator noted means that body or none."""
    async with running_outbox(tmp_path) as outbox:
        body = QuarantinedBody("events", "broken_json", "", b"x")
        await outbox.writer.append(IngestBatch(1, START_MS, quarantined=[body]))
        await outbox.quarantine.discard(ALL)
        await outbox.writer.append(IngestBatch(1, START_MS, quarantined=[body]))
        assert [one.id for one in await outbox.quarantine.page(ALL, after=0, limit=9)] == [2]


FIELDS = MessageFields(id="m1", name="Sale", contents=None)


async def _note(outbox: Outbox, fields: MessageFields, today: int) -> None:
    kept = outbox.message_cache.note(1, fields, today)
    messages = [(fields.id or "", kept)] if kept else []
    await outbox.writer.append(IngestBatch(1, today * DAY_MS, messages=messages))


async def test_a_message_is_remembered_for_90_days_after_it_was_last_seen(tmp_path: Path) -> None:
    """A late blank event gets the contents of an earlier one until then."""
    async with running_outbox(tmp_path) as outbox:
        await _note(outbox, FIELDS, TODAY)
        await _note(outbox, FIELDS, TODAY + 10)
        await _tidy(outbox, TODAY + 10 + MESSAGE_DAYS)
    async with running_outbox(tmp_path) as outbox:
        assert await outbox.message_cache.recall(1, "m1") == FIELDS
        assert await outbox.message_cache.recall(2, "m1") is None
        await _tidy(outbox, TODAY + 11 + MESSAGE_DAYS)
    async with running_outbox(tmp_path) as outbox:
        assert await outbox.message_cache.recall(1, "m1") is None


async def test_the_first_content_of_a_message_stays(tmp_path: Path) -> None:
    """Later events do not change a message."""
    async with running_outbox(tmp_path) as outbox:
        await _note(outbox, FIELDS, TODAY)
        await _note(outbox, MessageFields(id="m1", name="Other"), TODAY + 1)
    async with running_outbox(tmp_path) as outbox:
        assert await outbox.message_cache.recall(1, "m1") == FIELDS


async def test_a_message_of_a_rejected_body_reaches_the_disk_with_the_next(tmp_path: Path) -> None:
    """OneSignal resends a rejected body; its message contents must be kept then."""
    policy = MappingPolicy(APP_ID, parse_selection("all"), "seed", "device", "relay/1.2.3")
    body = orjson.dumps(PUSH_CLICKED)
    async with running_outbox(tmp_path, max_events=1) as outbox:
        ingest = EventIngest(outbox.writer, outbox.message_cache, FakeClock())
        source = Source(APP, outbox.counters.number(APP), policy)
        await append(outbox, "e1")
        with pytest.raises(StoreFull):
            await ingest.receive(source, body)
        await _deliver(outbox)
        assert (await ingest.receive(source, body)).accepted == 1
    async with running_outbox(tmp_path) as outbox:
        assert await outbox.message_cache.recall(1, PUSH_CLICKED["message"]["id"]) is not None


async def test_a_blank_event_is_filled_from_earlier_ones_of_its_body_only(tmp_path: Path) -> None:
    """Order counts within a body as between bodies: the first event cannot know what follows."""
    policy = MappingPolicy(APP_ID, parse_selection("all"), "seed", "device", "relay/1.2.3")
    blank = {"id": "m1"}
    whole = {"id": "m1", "name": "Sale"}
    events = [
        {"event": {"kind": "message.push.clicked", "id": name, "external_id": "u"}, "message": said}
        for name, said in (("e1", blank), ("e2", whole), ("e3", blank))
    ]
    async with running_outbox(tmp_path) as outbox:
        ingest = EventIngest(outbox.writer, outbox.message_cache, FakeClock())
        source = Source(APP, outbox.counters.number(APP), policy)
        assert (await ingest.receive(source, orjson.dumps(events))).accepted == 3
        bodies = await outbox.claims.read_bodies([1, 2, 3])
        assert bodies is not None
        properties = [event["event_properties"] for event in orjson.loads(b"[%b]" % bodies)]
        assert [each.get("Message Name") for each in properties] == [None, "Sale", "Sale"]


async def test_a_message_cached_during_a_lookup_is_not_lost(tmp_path: Path) -> None:
    """A lookup on disk that found nothing does not hide a later entry."""
    async with running_outbox(tmp_path) as outbox:
        async with anyio.create_task_group() as group, busy_reader(outbox):
            group.start_soon(outbox.message_cache.recall, 1, "m1")
            await wait_all_tasks_blocked()
            outbox.message_cache.note(1, FIELDS, TODAY)
        assert await outbox.message_cache.recall(1, "m1") == FIELDS


# Limits and failures.


async def test_a_full_outbox_rejects_whole_requests(tmp_path: Path) -> None:
    """Past the limit an array is rejected as a whole; quarantine still works."""
    async with running_outbox(tmp_path, max_events=3) as outbox:
        await append(outbox, "e1", "e2")
        with pytest.raises(StoreFull):
            await append(outbox, "e3", "e4")
        assert (await append(outbox, "e3")).accepted == 1
        body = QuarantinedBody("events", "broken_json", "", b"x")
        await outbox.writer.append(IngestBatch(1, START_MS, filtered=2, quarantined=[body]))
        await _deliver(outbox)
        assert (await append(outbox, "e4")).accepted == 1
        assert await counts(outbox) == Counts(accepted=4, delivered=3, filtered=2, quarantined=1)


async def test_a_full_disk_rejects_events_and_keeps_everything_consistent(tmp_path: Path) -> None:
    """Answered events are stored, rejected ones are not, and writes resume when there is space."""
    accepted: set[str] = set()
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "first")
        await limit_pages(outbox, 60)

        async def one(name: str) -> None:
            try:
                await append(outbox, mapped(name, user_id="u" * 3_000))
            except StoreFull:
                return
            accepted.add(name)

        async with anyio.create_task_group() as group:
            for name in _ids("e", 300):
                group.start_soon(one, name)
        for name in _ids("f", 300):
            await one(name)
        assert 0 < len(accepted) < 600
        assert set(census(tmp_path).pending) == {"first", *accepted}
        assert (await counts(outbox)).accepted == 1 + len(accepted) == outbox.counters.pending
        assert outbox.writer.waiting_bytes == 0
        await _deliver(outbox)
        await limit_pages(outbox, 1_000_000)
        refused = sorted({*_ids("e", 300), *_ids("f", 300)} - accepted)
        assert await append(outbox, *refused, *accepted) == AppendResult(
            len(refused), len(accepted)
        )


def test_a_second_process_is_rejected(tmp_path: Path) -> None:
    """One data directory, one relay."""
    with lock_folder(tmp_path / "new"):
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        with pytest.raises(StoreBusy, match="in use"), lock_folder(tmp_path / "new"):
            pass
    with lock_folder(tmp_path / "new"):
        assert (tmp_path / "new" / LOCK_NAME).exists()


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    """Relay's own error names the path."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="file"), lock_folder(tmp_path / "file" / "x"):
        pass


async def test_a_pause_survives_a_restart(tmp_path: Path) -> None:
    """An operator's pause is on disk."""
    async with running_outbox(tmp_path) as outbox:
        assert await outbox.counters.set_paused(APP, paused=True)
        assert not await outbox.counters.set_paused(APP, paused=True)
    async with running_outbox(tmp_path) as outbox:
        states = await outbox.counters.states()
        assert (states[APP].is_paused, states[OTHER].is_paused) == (True, False)


async def test_an_app_that_left_the_configuration_keeps_its_events(tmp_path: Path) -> None:
    """They are only not delivered; number and counts return with the app."""
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, "e1", app=OTHER)
        number = outbox.counters.number(OTHER)
    async with running_outbox(tmp_path, apps=(APP, "third")) as outbox:
        assert (await counts(outbox, OTHER)).pending == 1
        assert outbox.counters.number("third") != number
    async with running_outbox(tmp_path) as outbox:
        assert outbox.counters.number(OTHER) == number


async def test_freed_pages_go_back_to_the_file_system(tmp_path: Path) -> None:
    """A drained outbox is small again."""
    async with running_outbox(tmp_path) as outbox:
        rng = random.Random(1)
        for number in range(20):
            users = [rng.randbytes(500).hex() for _ in range(100)]
            await append(outbox, *(mapped(f"{number}-{u}", user_id=u) for u in users))
        await outbox.retention.flush()
        pages = (await outbox.database.fetch("PRAGMA page_count", {}))[0][0]
        await _deliver(outbox)
        await _tidy(outbox)
        for _ in range(20):
            await outbox.retention.vacuum(100)
        left = (await outbox.database.fetch("PRAGMA page_count", {}))[0][0]
        assert left < pages / 2


async def test_an_outbox_that_filled_its_disk_frees_it_once_drained(
    tmp_path: Path,
) -> None:
    """Delivered rows are pruned even below the minimum free space: only that frees the disk."""
    clock = FakeClock()
    async with running_outbox(tmp_path) as outbox:
        await append(outbox, *_ids("e", 100))
        await _deliver(outbox)
        outbox.retention.flush_policy = FlushPolicy(after_s=0.0)
        policy = MaintenancePolicy(tick_s=0.01)
        maintenance = Maintenance(outbox.retention, clock, Heartbeat(clock), policy)
        async with anyio.create_task_group() as group:
            await group.start(maintenance.run)
            with anyio.move_on_after(1):
                while _tables(tmp_path)["events"]:
                    await outbox.database.flush()
            group.cancel_scope.cancel()
        assert _tables(tmp_path)["events"] == 0


# How SQLite finds the rows.


def _plan(outbox_raw: sqlite3.Connection, query: str) -> str:
    names = dict.fromkeys(_parameters(SQL[query]))
    rows = outbox_raw.execute(f"EXPLAIN QUERY PLAN {SQL[query]}", names).fetchall()
    return " | ".join(str(row[3]) for row in rows)


def _parameters(sql: str) -> Iterable[str]:
    return {word.strip(":,;()") for word in sql.replace("(", " ").split() if word.startswith(":")}


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        ("append", "SEARCH seen USING PRIMARY KEY (day=? AND key=?)"),
        ("appended", "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("unflushed", "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"),
        ("waiting", "SEARCH e USING INDEX events_by_app (app=? AND rowid>?)"),
        ("named", "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"),
        ("bodies", "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"),
        ("present", "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"),
        ("drop_events", "SEARCH e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("drop_tries", "SEARCH t USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("forget_seen", "SEARCH seen USING PRIMARY KEY (day=? AND key<?)"),
        ("forget_messages", "SEARCH messages USING COVERING INDEX messages_by_day (seen_day<?)"),
        ("message", "SEARCH messages USING PRIMARY KEY (app=? AND message_id=?)"),
        ("dead_letter", "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)"),
        ("dead_letters", "SEARCH dead_letters USING INTEGER PRIMARY KEY (rowid>?)"),
        ("quarantined", "SEARCH quarantine USING INTEGER PRIMARY KEY (rowid>?)"),
    ],
)
async def test_hot_queries_use_their_index(tmp_path: Path, query: str, needed: str) -> None:
    """No query of the hot path scans a table, or sorts what an index orders."""
    async with running_outbox(tmp_path) as outbox:
        plan = await outbox.database.read(lambda raw: _plan(raw, query))
    assert needed in plan
    assert "TEMP B-TREE" not in plan or query in {"named", "bodies"}
    scans = [step for step in plan.split(" | ") if step.startswith("SCAN")]
    allowed = (
        "json_each",
        "j ",
        "s ",
        "r ",
        "seen_days",
        "(subquery",
        "j",
        "r",
        "s",
        "d ",
        "marks",
    )
    assert all(step.removeprefix("SCAN ").startswith(allowed) for step in scans)
