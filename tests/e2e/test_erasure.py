"""A user is erased everywhere and stays erased, whatever arrives later and by whatever way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import orjson
import pytest

from relay.clock import SystemClock
from relay.directory.erasure import UserErasure
from relay.directory.observer import CHUNK, Observer
from relay.errors import StoreFull
from relay.events.catalog import parse_selection
from relay.events.mapping import MappingPolicy
from relay.events.records import Record
from relay.ingest.events import EventIngest, Source
from relay.outbox.selection import Selection
from relay.outbox.store import Outbox
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.onesignal.csv_export import CsvExportStandIn, ExportConditions
from relay.segments.store import Segments
from tests.support.cohort_relays import ONESIGNAL_KEY, SECRET_KEY, World, world
from tests.support.outboxes import busy_reader, running_outbox, waiting
from tests.support.relays import (
    API_KEY,
    APP_ID,
    COHORT,
    DEADLINE_S,
    app_environment,
    cohort_message,
    event,
    relay_and_amplitude,
    running_relay,
)
from tests.support.segment_tables import APP, SegmentFile, open_table

USER = "anna@mail.example"
POLLED = "SELECT external_id FROM segment_members WHERE cohort_id = 'polled'"


def _offline() -> dict[str, str]:
    return app_environment("shop", "http://127.0.0.1:9")


async def _forget(it: World) -> None:
    assert (await it.relay.api("DELETE", "/users/shop/anna%40mail.example")).status == 204


async def test_an_erased_user_never_comes_back(tmp_path: Path) -> None:
    """Neither file, export, webhook, event nor PUT brings the id in again."""
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    cohorts.put(StandInCohort(id="polled", user_ids=[USER, "ben"]))
    exports = CsvExportStandIn({APP_ID: ONESIGNAL_KEY})
    exports.put([(USER, "s-1", 1, True), ("ben", "s-2", 1, True)])
    exports.conditions = ExportConditions(polls=0)
    changes = {"RELAY_DIRECTORY__SYNC_INTERVAL_S": "600"}
    async with world(tmp_path, changes, cohorts=cohorts, exports=exports) as it:
        await it.relay.post(cohort_message(1, USER, "ben"), webhook="cohorts")
        await it.relay.post(event(1, external_id=USER))
        await it.until(POLLED + " ORDER BY 1", lambda rows: rows == [(USER,), ("ben",)])
        await _forget(it)
        assert await _left(it) == [(USER, "left"), (USER, "left")]
        await _repeat_everywhere(it)
        assert await _left(it) == [(USER, "left"), (USER, "left")]
        assert (
            SegmentFile(tmp_path).members("polled")
            == SegmentFile(tmp_path).members(COHORT)
            == ["ben"]
        )
        SegmentFile(tmp_path).check_figures()
        status = await it.relay.status()
        assert (status["pending"], status["discarded"], status["filtered"]) == (0, 1, 2)
    async with world(tmp_path, changes, cohorts=cohorts, exports=exports) as it:
        await _repeat_everywhere(it)
        assert await _left(it) == [(USER, "left"), (USER, "left")]
        assert (await it.relay.api("GET", "/users/shop/anna%40mail.example")).status == 404


async def _left(it: World) -> list[tuple[str, str]]:
    """Return the last changes about the user, after checking that nothing else is left."""
    for table in ("listed", "run_changes", "marks", "users", "subscriptions"):
        assert it.look(f"SELECT count(*) FROM {table} WHERE external_id = ?", USER) == [(0,)]
    return it.look("SELECT external_id, change FROM segment_changes WHERE external_id = ?", USER)


async def _repeat_everywhere(it: World) -> None:
    """Let every source name the user once more."""
    number = len(it.look("SELECT * FROM messages"))
    answer = await it.relay.post(
        cohort_message(number + 1, USER, computed_at=1_999_999_999), webhook="cohorts"
    )
    assert answer.json["added"] == 0
    for place, kind in enumerate(("message.push.clicked", "message.push.unsubscribed")):
        body = event(1_000 * number + place, kind=kind, external_id=USER)
        assert (await it.relay.post(body)).json["filtered"] == 1
    offered = {"subscriptions": [{"id": "s-9", "type": "Email", "subscribed": True}]}
    path = "/directory/shop/anna%40mail.example"
    assert (await it.relay.api("PUT", path, offered)).status == 204
    synced = "SELECT synced_at FROM apps"
    before = it.look(synced)
    await it.relay.api("POST", "/directory/shop/sync")
    await it.until(synced, lambda rows: rows != before)
    polls = "SELECT count(*) FROM cohort_runs WHERE source = 'poll' AND state <> 'running'"
    ((number_of_polls,),) = it.look(polls)
    await it.relay.api("POST", "/segments/shop/polled/sync")
    await it.until(polls, lambda rows: rows[0][0] > number_of_polls)


async def test_an_event_in_an_upload_is_accounted_for_once(tmp_path: Path) -> None:
    """Amplitude may have it; here it is discarded, and the sum always holds."""
    changes = {"RELAY_DELIVERY__REQUEST_TIMEOUT_S": "20"}
    async with relay_and_amplitude(tmp_path, changes) as (relay, amplitude):
        amplitude.faults.add("slow", count=1, delay_s=0.6)
        await relay.post([event(1, external_id=USER), event(2), event(3)])
        await relay.until(lambda status: status["in_flight"] == 3)
        assert (await relay.api("DELETE", "/users/shop/anna%40mail.example")).status == 204
        status = await relay.status()
        assert (status["discarded"], status["pending"]) == (1, 2)
        status = await relay.settled()
        assert (status["delivered"], status["discarded"], status["accepted"]) == (2, 1, 3)
        await relay.post(event(4))
        status = await relay.until(lambda status: status["delivered"] == 3)
        assert status["accepted"] == 4


async def test_every_event_of_an_erased_user_is_filtered(tmp_path: Path) -> None:
    """Also one that would be left without an id, and one that is not selected."""
    selected = {"RELAY_APPS__SHOP__EVENTS": "message.push.*"}
    async with running_relay(tmp_path, {**_offline(), **selected}) as relay:
        assert (await relay.api("DELETE", "/users/shop/none")).status == 204
        anonymous = event(1, external_id="none", subscription_id=None)
        other = event(2, external_id="none", kind="message.email.sent")
        for body in (anonymous, other):
            answer = await relay.post(body)
            assert answer.json == {"accepted": 0, "duplicate": 0, "filtered": 1, "quarantined": 0}


async def test_dead_letters_of_an_erased_user_are_discarded(tmp_path: Path) -> None:
    """Including the event they hold; those of other users stay."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        amplitude.faults.add("400_bare")
        await relay.post([event(1, external_id=USER), event(2)])
        status = await relay.until(lambda status: status["dead"] == 2)
        assert (await relay.api("DELETE", "/users/shop/anna%40mail.example")).status == 204
        status = await relay.status()
        assert (status["dead"], status["discarded"]) == (1, 1)
        (dead_letter,) = await relay.dead_letters()
        assert USER not in orjson.dumps(dead_letter).decode()


async def test_quarantined_bodies_of_both_webhooks_that_name_the_user_are_removed(
    tmp_path: Path,
) -> None:
    """Quarantine keeps invalid bodies, but none that name an erased user."""
    async with running_relay(tmp_path, _offline()) as relay:
        await relay.post(event(1, external_id=USER, kind="message.pigeon.sent"))
        await relay.post(event(2, kind="message.pigeon.sent"))
        await relay.post({"members": [USER]}, webhook="cohorts")
        assert (await relay.status())["quarantined"] == 3
        assert (await relay.api("DELETE", "/users/shop/anna%40mail.example")).status == 204
        (item,) = (await relay.api("GET", "/quarantine")).json["items"]
        assert "user-2" in item["body"]
        assert (await relay.status())["quarantined"] == 3


@dataclass(frozen=True)
class Inside:
    """Event ingest and erasure without doors, so that they can be interleaved."""

    outbox: Outbox
    segments: Segments
    observer: Observer
    ingest: EventIngest
    erasure: UserErasure

    @property
    def source(self) -> Source:
        """The app as its webhook sees it."""
        policy = MappingPolicy(APP_ID, parse_selection("all"), "seed", "device", "relay/test")
        return Source(APP, self.outbox.counters.number(APP), policy)


@asynccontextmanager
async def _inside(folder: Path) -> AsyncIterator[Inside]:
    clock = SystemClock()
    async with running_outbox(folder, (APP,)) as outbox, open_table(folder) as table:
        numbers = {APP: table.store.cohorts.number(APP)}
        observer = Observer(table.store.directory, table.store.forgotten, numbers, clock)
        yield Inside(
            outbox,
            table.store,
            observer,
            EventIngest(outbox.writer, outbox.message_cache, clock, observer),
            UserErasure(outbox, table.store, clock),
        )


async def test_an_event_read_during_the_erasure_stays_out(tmp_path: Path) -> None:
    """Reading a large body takes time; the erasure is answered before it is stored."""
    users = [USER, *(f"user-{number}" for number in range(12_000))]
    bodies = [
        {"event": {"kind": "message.push.clicked", "id": f"e-{user}", "external_id": user}}
        for user in users
    ]
    async with _inside(tmp_path) as it:
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(it.ingest.receive, it.source, orjson.dumps(bodies))
                await anyio.lowlevel.checkpoint()
                await it.erasure.forget(APP, USER)
        left = {one.user_id for one in await waiting(it.outbox, APP)}
        assert USER not in left
        assert len(left) == len(users) - 1


def _click(user: str, **changes: str) -> dict[str, dict[str, str]]:
    kind, name = "message.push.clicked", f"e-{user}"
    return {"event": {"kind": kind, "id": name, "external_id": user, **changes}}


async def test_an_event_waiting_for_room_while_its_user_is_forgotten_stays_out(
    tmp_path: Path,
) -> None:
    """At the outbox's limit an append asks the disk first, and others get their turn."""
    async with _inside(tmp_path) as it:
        it.outbox.writer.max_events = 2
        await it.ingest.receive(it.source, orjson.dumps([_click("ben")]))
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group, busy_reader(it.outbox):
                again = orjson.dumps([_click("ben"), _click(USER)])
                group.start_soon(it.ingest.receive, it.source, again)
                await anyio.wait_all_tasks_blocked()
                number = it.segments.cohorts.number(APP)
                await it.segments.erasure.keep_out(number, USER, 0)
        assert [one.user_id for one in await waiting(it.outbox, APP)] == ["ben"]


async def test_the_directory_observes_only_what_is_committed(tmp_path: Path) -> None:
    """A refused body is sent again; a body of the quarantine teaches once, when it leaves it."""
    async with _inside(tmp_path) as it:
        offered: list[str | None] = []
        ingest = EventIngest(
            it.outbox.writer, it.outbox.message_cache, SystemClock(), _Noting(it, offered)
        )
        it.outbox.writer.max_events = 1
        with pytest.raises(StoreFull):
            await ingest.receive(it.source, orjson.dumps([_click("ben"), _click("cara")]))
        assert offered == []
        foreign = _click("dan", app_id="another")
        assert (await ingest.receive(it.source, orjson.dumps(foreign))).quarantined == 1
        assert offered == []
        policy = replace(it.source.policy, app_id="another")
        sources = {APP: replace(it.source, policy=policy)}
        for dry_run, names in ((True, []), (False, ["dan"]), (False, ["dan"])):
            await ingest.retry(it.outbox.quarantine, Selection(), sources, dry_run=dry_run)
            assert offered == names


class _Noting(Observer):
    """Notes the users it is offered."""

    def __init__(self, it: Inside, offered: list[str | None]) -> None:
        self.__dict__ = it.observer.__dict__
        self._told = offered

    def offer(self, app: str, record: Record, received_at: int) -> None:
        """Note the user of an event."""
        del app, received_at
        self._told.append(record.external_id)


async def test_an_observation_queued_during_the_erasure_stays_out(tmp_path: Path) -> None:
    """Observations are written in several transactions; the user is erased between two."""
    async with _inside(tmp_path) as it:
        for number in range(CHUNK + 1):
            user = USER if number == CHUNK else f"user-{number}"
            record = Record(
                "message.push.clicked",
                subscription_id=f"s-{number}",
                external_id=user,
                time_ms=number,
            )
            it.observer.offer(APP, record, 1_000_000)
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(it.observer.flush)
                await anyio.lowlevel.checkpoint()
                await it.erasure.forget(APP, USER)
        users: list[Any] = SegmentFile(tmp_path).look(
            "SELECT count(*), max(external_id = ?) FROM users", USER
        )
        assert users == [(CHUNK, 0)]
