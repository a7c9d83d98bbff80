"""Cohorts come in by polling: relay between the stand-ins, seen from outside."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from relay.sandbox.cohorts.files import FileShape
from relay.sandbox.cohorts.project import StandInCohort
from relay.segments.store import DATABASE_NAME
from tests.support.cohort_relays import World, world
from tests.support.relays import DEADLINE_S, Response

BUYERS = StandInCohort(id="buyers", name="Buyers", user_ids=["u1", "u2", "u3", "stranger"])
MANY = [f"u{number}" for number in range(200)]


def requested(it: World, cohort_id: str = "buyers") -> int:
    """Return how many exports of a cohort were requested."""
    return sum(
        call.operation == "request" and call.cohort_id == cohort_id for call in it.cohorts.requests
    )


async def sync(it: World) -> Response:
    """Request a download, as an operator does."""
    answer = await it.relay.api("POST", "/segments/shop/buyers/sync")
    assert answer.status == 200
    return answer


async def held_shrink(it: World) -> tuple[int, str]:
    """Shrink a segment of 200 by half; return the held run and its reason."""
    it.exports.put([(user, f"s-{user}", 1, True) for user in MANY])
    assert (await it.relay.api("POST", "/directory/shop/sync")).status == 200
    it.cohorts.put(StandInCohort(id="buyers", user_ids=MANY))
    await it.until("SELECT count(*) FROM segment_members", lambda rows: rows == [(200,)])
    it.cohorts.change("buyers", remove=MANY[:100])
    ((run, *_, reason),) = await it.run("held")
    return run, reason


async def members(it: World, *wanted: str) -> None:
    """Wait until the segment has exactly these members."""
    query = "SELECT external_id FROM segment_members ORDER BY external_id"
    await it.until(query, lambda rows: [name for (name,) in rows] == sorted(wanted))


async def test_known_members_of_a_cohort_become_a_segment(tmp_path: Path) -> None:
    """The main job: a segment has the cohort's users that OneSignal knows."""
    async with world(tmp_path) as it:
        await it.know(u1=[True, True], u2=[False], u3=[])
        it.cohorts.put(BUYERS)
        await members(it, "u1", "u2", "u3")
        answer = await it.relay.api("GET", "/segments/shop/buyers/explain")
        assert answer.json == {
            "cohort_size": 4,
            "empty_ids": 0,
            "restricted_ids": 0,
            "unknown_users": 1,
            "matched_users": 3,
            "matched_without_subscription": 1,
            "only_unsubscribed": 1,
            "subscribed_users": 1,
            "subscribed_count": 2,
        }
        ((name, state),) = it.look("SELECT name, state FROM segments")
        assert (name, state) == ("Buyers", "active")


async def test_an_unchanged_cohort_is_not_downloaded_again(tmp_path: Path) -> None:
    """Every export counts against the month; the list shows whether one is needed."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        lists = sum(call.operation == "list" for call in it.cohorts.requests)
        await it.until(
            "SELECT 1",
            lambda _: sum(call.operation == "list" for call in it.cohorts.requests) > lists + 3,
        )
        assert requested(it) == 1
        status = await it.segments()
        assert (status["downloads_this_month"], status["active"]) == (1, 1)


async def test_a_changed_cohort_moves_the_segment_in_one_step(tmp_path: Path) -> None:
    """Entering and leaving users are one revision, under one run."""
    async with world(tmp_path) as it:
        await it.know(u1=[True], u2=[True], u3=[True])
        it.cohorts.put(StandInCohort(id="buyers", user_ids=["u1", "u2"]))
        await members(it, "u1", "u2")
        it.cohorts.change("buyers", add=["u3"], remove=["u1"])
        await members(it, "u2", "u3")
        changes = it.look(
            "SELECT external_id, change, run_id FROM segment_changes WHERE run_id > 1"
        )
        assert {change[:2] for change in changes} == {("u3", "entered"), ("u1", "left")}
        assert len({run for _, _, run in changes}) == 1


async def test_a_cohort_that_empties_empties_its_segment_below_the_guard(tmp_path: Path) -> None:
    """Removing everyone is an ordinary change below the guard's minimum."""
    async with world(tmp_path) as it:
        await it.know(u1=[True], u2=[True])
        it.cohorts.put(StandInCohort(id="buyers", user_ids=["u1", "u2"]))
        await members(it, "u1", "u2")
        it.cohorts.change("buyers", remove=["u1", "u2"])
        await members(it)
        assert it.look("SELECT matched_users, state FROM segments") == [(0, "active")]


async def test_a_large_shrink_is_held_and_can_be_approved(tmp_path: Path) -> None:
    """A mass removal needs an operator's approval."""
    async with world(tmp_path) as it:
        run, reason = await held_shrink(it)
        assert "100 of 200" in reason
        assert it.look("SELECT state, matched_users FROM segments") == [("held", 200)]
        asked = requested(it)
        answer = await it.relay.api("POST", f"/cohort-runs/{run}/approve")
        assert (answer.status, answer.json) == (200, {"affected": 1})
        assert it.look("SELECT state, matched_users FROM segments") == [("active", 100)]
        assert requested(it) == asked


async def test_a_rejected_computation_is_not_downloaded_again(tmp_path: Path) -> None:
    """What an operator has judged is neither requested nor held again."""
    async with world(tmp_path) as it:
        run, _ = await held_shrink(it)
        assert (await it.relay.api("POST", f"/cohort-runs/{run}/reject")).status == 200
        asked = requested(it)
        lists = len(it.cohorts.requests)
        await it.until("SELECT 1", lambda _: len(it.cohorts.requests) > lists + 3)
        assert requested(it) == asked
        assert it.look("SELECT state, matched_users FROM segments") == [("active", 200)]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (FileShape(cut="gzip", encoding="gzip"), "truncated"),
        (FileShape(cut="length"), "truncated"),
        (FileShape(columns=("amplitude_id", "person")), "wrong_columns"),
        (FileShape(content="html"), "not_csv"),
        (FileShape(max_rows=50), "size_mismatch"),
        (FileShape(max_rows=0), "no_members"),
    ],
)
async def test_a_bad_file_fails_the_run_and_leaves_the_segment(
    tmp_path: Path, shape: FileShape, reason: str
) -> None:
    """The defect is named, and no member leaves because of it."""
    async with world(tmp_path) as it:
        users = {user: [True] for user in MANY[:5]}
        await it.know(**users)
        it.cohorts.put(StandInCohort(id="buyers", user_ids=MANY))
        await members(it, *users)
        it.cohorts.put(StandInCohort(id="buyers", user_ids=MANY, shape=shape))
        rows = await it.run("failed")
        assert rows[0][-1].startswith(reason)
        assert it.look("SELECT count(*) FROM segment_members") == [(5,)]
        assert (await it.segments())["last_error"]


async def test_a_failed_run_is_repeated_with_the_same_export(tmp_path: Path) -> None:
    """A file that broke on the way is fetched again without a second download."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.faults.add("500", operation="file", count=3)
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        assert len(await it.run("failed")) == 3
        assert requested(it) == 1


async def test_missing_and_archived_cohorts_keep_their_members(tmp_path: Path) -> None:
    """A cohort missing from the list is not an empty cohort."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        it.cohorts.put(BUYERS.model_copy(update={"archived": True}))
        await it.until("SELECT state FROM segments", lambda rows: rows == [("archived",)])
        it.cohorts.remove("buyers")
        await it.until("SELECT state FROM segments", lambda rows: rows == [("stale",)])
        assert it.look("SELECT external_id FROM segment_members") == [("u1",)]


async def test_a_renamed_cohort_renames_its_segment(tmp_path: Path) -> None:
    """The segment takes the cohort's new name."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        it.cohorts.put(BUYERS.model_copy(update={"name": "Best buyers"}))
        await it.until("SELECT name FROM segments", lambda rows: rows == [("Best buyers",)])


async def test_a_restart_continues_with_its_export(tmp_path: Path) -> None:
    """A running export survives the process; Amplitude counts one download."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.conditions.job.never_completes = True
        it.cohorts.put(BUYERS)
        await it.until("SELECT request_id FROM runs", lambda rows: rows and rows[0][0] is not None)
        stand_in = it.cohorts
    stand_in.conditions.job.never_completes = False
    async with world(tmp_path, cohorts=stand_in) as it:
        await members(it, "u1")
        assert requested(it) == 1
        assert len(it.look("SELECT * FROM cohort_runs")) == 1


async def test_wrong_keys_are_named_and_not_hammered(tmp_path: Path) -> None:
    """A refused list is retried only after HALT_PROBE_S, and the status says why."""
    changes = {
        "RELAY_APPS__SHOP__AMPLITUDE_SECRET_KEY": "wrong-secret-key",
        "RELAY_DELIVERY__HALT_PROBE_S": "600",
    }
    async with world(tmp_path, changes) as it:
        it.cohorts.put(BUYERS)
        status = await it.segments()
        while not status["last_error"]:
            status = await it.segments()
        assert "AMPLITUDE_REGION" in status["last_error"]
        assert "wrong-secret-key" not in status["last_error"]
        assert len(it.cohorts.requests) == 1


async def test_the_month_s_downloads_are_never_exceeded(tmp_path: Path) -> None:
    """The limit also holds for first downloads and manual syncs; the status shows it."""
    async with world(tmp_path, {"RELAY_COHORTS__MONTHLY_DOWNLOADS": "2"}) as it:
        await it.know(u1=[True])
        for name in ("one", "two", "three"):
            it.cohorts.put(StandInCohort(id=name, user_ids=["u1"]))
        await it.until("SELECT count(*) FROM segments", lambda rows: rows == [(2,)])
        status = await it.segments()
        while status["next_download_at"] is None:
            status = await it.segments()
        assert (status["downloads_this_month"], status["downloads_left"]) == (2, 0)
        assert "used up" in status["last_error"]
        (waiting,) = {"one", "two", "three"} - {
            id_ for (id_,) in it.look("SELECT cohort_id FROM segments")
        }
        assert (await it.relay.api("POST", f"/segments/shop/{waiting}/sync")).status == 200
        lists = len(it.cohorts.requests)
        await it.until("SELECT 1", lambda _: len(it.cohorts.requests) > lists + 3)
        assert it.cohorts.downloads_this_month == 2


async def test_a_manual_sync_downloads_at_once(tmp_path: Path) -> None:
    """A manual sync downloads although nothing changed."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        with anyio.fail_after(DEADLINE_S):  # the first download may not be finished yet
            while not (await sync(it)).json["affected"]:
                await anyio.sleep(0.01)
        await it.run("unchanged")
        assert requested(it) == 2


async def test_selected_cohorts_alone_are_downloaded(tmp_path: Path) -> None:
    """COHORTS names what is kept."""
    async with world(tmp_path, {"RELAY_APPS__SHOP__COHORTS": "two"}) as it:
        await it.know(u1=[True])
        for name in ("one", "two"):
            it.cohorts.put(StandInCohort(id=name, user_ids=["u1"]))
        await it.until("SELECT count(*) FROM segments", lambda rows: rows == [(1,)])
        assert requested(it, "one") == 0


async def test_one_broken_cohort_does_not_stop_another(tmp_path: Path) -> None:
    """Downloads run independently."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.put(StandInCohort(id="broken", user_ids=["u1"], never_completes=True))
        it.cohorts.put(StandInCohort(id="whole", user_ids=["u1"]))
        query = "SELECT cohort_id FROM segments"
        await it.until(query, lambda rows: rows == [("whole",)])


async def test_amplitude_s_own_count_corrects_relay_s(tmp_path: Path) -> None:
    """The usage endpoint, where available, includes downloads by others."""
    async with world(tmp_path) as it:
        it.cohorts.conditions.usage = "nested"
        it.cohorts.spend(499)
        status: dict[str, Any] = await it.segments()
        while status["downloads_this_month"] != 499:
            status = await it.segments()
        assert status["downloads_left"] == 1


async def test_an_export_that_is_never_ready_fails_in_time(tmp_path: Path) -> None:
    """A run has a deadline."""
    async with world(tmp_path, {"RELAY_COHORTS__EXPORT_TIMEOUT_S": "0.2"}) as it:
        await it.know(u1=[True])
        it.cohorts.put(StandInCohort(id="slow", user_ids=["u1"], never_completes=True))
        rows = await it.run("failed")
        assert "within 0.2 s" in rows[0][-1]


@pytest.mark.parametrize("name", ["502", "429"])
async def test_a_fault_while_waiting_for_an_export_costs_no_other(
    tmp_path: Path, name: str
) -> None:
    """The export keeps running; its download is already spent."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.faults.add(name, operation="status", count=2)
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        assert requested(it) == 1
        assert it.look("SELECT state FROM cohort_runs") == [("applied",)]


async def test_an_export_of_another_definition_is_not_reused(tmp_path: Path) -> None:
    """A failed file is fetched again only for the computation it belongs to."""
    async with world(tmp_path) as it:
        await it.know(old=[True], new=[True])
        it.cohorts.faults.add("500", operation="file")
        static = StandInCohort(
            id="static", user_ids=["old"], last_computed_s=1_000, last_mod_s=1_000
        )
        it.cohorts.put(static)
        await it.run("failed")
        it.cohorts.put(static.model_copy(update={"user_ids": ["new"], "last_mod_s": 2_000}))
        await it.until("SELECT 1", lambda _: requested(it, "static") == 2)
        it.cohorts.faults.clear()
        await members(it, "new")


async def test_a_cohort_with_erased_users_is_applied(tmp_path: Path) -> None:
    """Erased users are still in the file, so its size agrees with the list."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        forgotten = [f"gone-{number}" for number in range(30)]
        for user in forgotten:
            assert (await it.relay.api("DELETE", f"/users/shop/{user}")).status == 204
        it.cohorts.put(StandInCohort(id="buyers", user_ids=["u1", *forgotten]))
        await members(it, "u1")
        assert it.look("SELECT members FROM cohort_runs") == [(31,)]
        assert it.look("SELECT external_id FROM listed") == [("u1",)]


async def test_a_429_pauses_every_export_of_the_app(tmp_path: Path) -> None:
    """Amplitude accepts no more; the status says until when."""
    async with world(tmp_path) as it:
        it.cohorts.faults.add("429", operation="request", retry_after="600")
        for number in range(9):
            it.cohorts.put(StandInCohort(id=f"c{number}", user_ids=["u1"]))
        await it.run("failed")
        lists = len(it.cohorts.requests)
        await it.until("SELECT 1", lambda _: len(it.cohorts.requests) > lists + 4)
        asked = sum(call.operation == "request" for call in it.cohorts.requests)
        assert asked <= 4
        status = await it.segments()
        assert status["downloads_this_month"] == 0
        assert status["next_download_at"] is not None


async def test_a_failed_manual_sync_is_repeated_and_shown(tmp_path: Path) -> None:
    """A manual sync of an unchanged cohort is retried when its file breaks."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        it.cohorts.faults.add("500", operation="file", count=2)
        with anyio.fail_after(DEADLINE_S):
            while not (await sync(it)).json["affected"]:
                await anyio.sleep(0.01)
        await it.run("failed", 2)
        await it.run("unchanged")
        assert requested(it) == 2
        assert (await it.segments())["last_error"] is None


async def test_several_approvals_at_once_are_one(tmp_path: Path) -> None:
    """A double click approves once; the others get an error: not held any more."""
    async with world(tmp_path) as it:
        run, _ = await held_shrink(it)
        statuses: list[int] = []

        async def approve() -> None:
            statuses.append((await it.relay.api("POST", f"/cohort-runs/{run}/approve")).status)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(approve)
        assert sorted(statuses) == [200, 409, 409]


async def test_a_failed_run_of_a_missing_cohort_is_not_repeated(tmp_path: Path) -> None:
    """A segment whose cohort left the list keeps its members, whatever was in flight."""
    async with world(tmp_path) as it:
        await it.know(u1=[True], u2=[True])
        it.cohorts.put(StandInCohort(id="buyers", user_ids=["u1"]))
        await members(it, "u1")
        it.cohorts.faults.add("503", operation="file")
        it.cohorts.put(StandInCohort(id="buyers", user_ids=["u2"]))
        await it.run("failed")
        it.cohorts.remove("buyers")
        await it.until("SELECT state FROM segments", lambda rows: rows == [("stale",)])
        it.cohorts.faults.clear()
        lists = len(it.cohorts.requests)
        await it.until("SELECT 1", lambda _: len(it.cohorts.requests) > lists + 4)
        assert it.look("SELECT external_id FROM segment_members") == [("u1",)]


async def test_an_export_in_an_unknown_state_is_not_requested_again(tmp_path: Path) -> None:
    """While its state is unknown, no other export is requested."""
    async with world(tmp_path, {"RELAY_COHORTS__EXPORT_TIMEOUT_S": "0.2"}) as it:
        await it.know(u1=[True])
        it.cohorts.faults.add("503", operation="status")
        it.cohorts.put(BUYERS)
        await it.run("failed")
        lists = len(it.cohorts.requests)
        await it.until("SELECT 1", lambda _: len(it.cohorts.requests) > lists + 6)
        assert requested(it) == 1
        it.cohorts.faults.clear()
        await members(it, "u1")


async def test_an_orphaned_run_is_failed(tmp_path: Path) -> None:
    """A disk too full to write down a failure leaves a run behind; no restart is needed."""
    async with world(tmp_path) as it:
        await it.know(u1=[True])
        it.cohorts.put(BUYERS)
        await members(it, "u1")
        with closing(sqlite3.connect(it.folder / DATABASE_NAME)) as raw, raw:
            raw.execute(
                "INSERT INTO runs (cohort, source, state, started_at)"
                " VALUES (1, 'poll', 'running', 1)"
            )
        ((*_, reason),) = await it.run("failed")
        assert "too full" in reason
