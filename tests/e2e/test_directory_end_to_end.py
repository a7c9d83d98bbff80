"""The directory follows OneSignal's exports, events and apps; segments follow the directory."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from relay.clock import SystemClock
from relay.sandbox.onesignal.csv_export import CsvExportStandIn, ExportConditions
from relay.sandbox.onesignal.export_files import EMAIL, ExportShape, Row
from tests.support.cohort_relays import ONESIGNAL_KEY, World, world
from tests.support.relays import APP_ID, COHORT, DEADLINE_S, cohort_message, event
from tests.support.segment_tables import SegmentFile

SCHEDULED = {"RELAY_DIRECTORY__SYNC_INTERVAL_S": "600"}
QUICK = ExportConditions(polls=0)
COUNT = "SELECT subscribed_count FROM segments"
ROWS: list[Row] = [
    ("anna", "s-1", 1, True),
    ("anna", "s-2", EMAIL, False),
    ("ben", "s-3", 1, True),
    (None, "s-4", 1, True),
]


def _happened(kind: str, subscription_id: str, external_id: str | None) -> dict[str, Any]:
    """Return an event that happens now."""
    at_ms = SystemClock().now_ms()
    now = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    body: dict[str, Any] = event(
        at_ms % 1_000_000_000_000,
        kind=kind,
        subscription_id=subscription_id,
        external_id=external_id,
        datetime=now.replace("+00:00", "Z"),
        timestamp=str(at_ms // 1000),
    )
    return body


def _exports() -> CsvExportStandIn:
    """Return a OneSignal that has the users before relay starts."""
    exports = CsvExportStandIn({APP_ID: ONESIGNAL_KEY})
    exports.put(ROWS)
    exports.conditions = QUICK
    return exports


async def _directory(it: World) -> dict[str, Any]:
    answer: dict[str, Any] = (await it.relay.api("GET", "/directory/shop")).json
    return answer


async def _sync(it: World) -> None:
    """Request an export and wait until the next one can be requested."""
    before = (await _directory(it))["synced_at"]
    assert (await it.relay.api("POST", "/directory/shop/sync")).json == {"affected": 1}
    await _until_synced(it, before)


async def _until_synced(it: World, before: int | None) -> None:
    with anyio.fail_after(DEADLINE_S):
        while (now := await _directory(it))["synced_at"] == before or now["sync"]["is_running"]:
            await anyio.sleep(0.01)


async def test_a_first_export_is_applied_at_the_start(tmp_path: Path) -> None:
    """Users enter the segments that list them; anonymous subscriptions have no user."""
    async with world(tmp_path, SCHEDULED, exports=_exports()) as it:
        await it.relay.post(cohort_message(1, "anna", "ben", "x"), webhook="cohorts")
        await it.until(COUNT, lambda rows: rows == [(2,)])
        found = await _directory(it)
        assert (found["users"], found["subscriptions"], found["subscribed"]) == (2, 3, 2)
        assert SegmentFile(tmp_path).members(COHORT) == ["anna", "ben"]
        SegmentFile(tmp_path).check_figures()


async def test_a_restart_within_the_interval_requests_no_export(tmp_path: Path) -> None:
    """OneSignal limits exports; a crash loop must not use them up."""
    async with world(tmp_path, SCHEDULED, exports=_exports()) as it:
        with anyio.fail_after(DEADLINE_S):
            while (await _directory(it))["synced_at"] is None:
                await anyio.sleep(0.01)
    async with world(tmp_path, SCHEDULED, exports=_exports()) as it:
        found = await _directory(it)
        assert (found["users"], found["sync"]["is_running"]) == (2, False)
        assert found["sync"]["next_at"] > found["synced_at"]
        assert len(it.exports.requests) == 0


async def test_the_next_export_is_authoritative_for_subscriptions(tmp_path: Path) -> None:
    """It removes, moves and adds subscriptions; users stay known."""
    async with world(tmp_path, exports=_exports()) as it:
        await _sync(it)
        await it.relay.post(cohort_message(1, "anna", "ben", "carl"), webhook="cohorts")
        assert it.look(COUNT) == [(2,)]
        it.exports.put([("carl", "s-3", 1, True), ("anna", "s-2", EMAIL, True)])
        await _sync(it)
        assert SegmentFile(tmp_path).members(COHORT) == ["anna", "ben", "carl"]
        assert SegmentFile(tmp_path).segment(COHORT)["subscribed_count"] == 2
        ben = (await it.relay.api("GET", "/users/shop/ben")).json
        assert ben["subscriptions"] == []
        SegmentFile(tmp_path).check_figures()


@pytest.mark.parametrize("kind", ["message.push.unsubscribed", "message.email.unsubscribed"])
@pytest.mark.parametrize("user", ["anna", None])
async def test_an_unsubscribed_user_is_not_counted(
    tmp_path: Path, kind: str, user: str | None
) -> None:
    """Also if the event names no user; the member stays a member."""
    async with world(tmp_path) as it:
        await it.know(anna=[True])
        await it.relay.post(cohort_message(1, "anna"), webhook="cohorts")
        assert it.look(COUNT) == [(1,)]
        await it.relay.post(_happened(kind, "anna/0", user))
        await it.until(COUNT, lambda rows: rows == [(0,)])
        assert SegmentFile(tmp_path).members(COHORT) == ["anna"]
        SegmentFile(tmp_path).check_figures()


async def test_an_unsubscribe_during_an_export_is_kept(tmp_path: Path) -> None:
    """The export was requested earlier; the next one counts again."""
    async with world(tmp_path, exports=_exports()) as it:
        await _sync(it)
        await it.relay.post(cohort_message(1, "anna", "ben"), webhook="cohorts")
        it.exports.faults.add("404", operation="csv")
        synced_at = (await _directory(it))["synced_at"]
        await it.relay.api("POST", "/directory/shop/sync")
        with anyio.fail_after(DEADLINE_S):
            while [call.operation for call in it.exports.requests][:4].count("csv") < 2:
                await anyio.sleep(0.01)
        await it.relay.post(_happened("message.push.unsubscribed", "s-1", "anna"))
        await it.until(COUNT, lambda rows: rows == [(1,)])
        it.exports.faults.clear()
        await _until_synced(it, synced_at)
        assert it.look(COUNT) == [(1,)]
        await _sync(it)
        assert it.look(COUNT) == [(2,)]
        SegmentFile(tmp_path).check_figures()


async def test_a_new_user_of_an_event_enters_the_segments(tmp_path: Path) -> None:
    """An event proves its user, without waiting for an export or a download."""
    async with world(tmp_path) as it:
        await it.relay.post(cohort_message(1, "anna", "ben"), webhook="cohorts")
        await it.relay.post(_happened("message.push.clicked", "s-1", "anna"))
        await it.until("SELECT external_id FROM segment_members", lambda rows: rows == [("anna",)])
        assert it.look(COUNT) == [(1,)]
        run = it.look("SELECT source, added FROM cohort_runs ORDER BY run_id")[-1]
        assert run == ("directory", 1)


@pytest.mark.parametrize(
    "shape",
    [
        ExportShape(content="html"),
        ExportShape(content="empty"),
        ExportShape(max_rows=0),
        ExportShape(cut="gzip"),
        ExportShape(columns=("id", "identifier")),
    ],
)
async def test_a_broken_export_changes_nothing_and_is_reported(
    tmp_path: Path, shape: ExportShape
) -> None:
    """A cut file unsubscribes no user."""
    async with world(tmp_path, exports=_exports()) as it:
        await _sync(it)
        before = it.look("SELECT * FROM subscriptions ORDER BY id")
        it.exports.conditions = ExportConditions(polls=0, shape=shape)
        assert (await it.relay.api("POST", "/directory/shop/sync")).json == {"affected": 1}
        with anyio.fail_after(DEADLINE_S):
            while not (error := (await _directory(it))["sync"]["last_error"]):
                await anyio.sleep(0.01)
        assert "anna" not in error
        assert it.look("SELECT * FROM subscriptions ORDER BY id") == before


async def test_an_app_s_put_counts_until_a_newer_export(tmp_path: Path) -> None:
    """Apps that forward SDK changes are ahead of any export."""
    async with world(tmp_path, exports=_exports()) as it:
        await _sync(it)
        await it.relay.post(cohort_message(1, "anna", "ben"), webhook="cohorts")
        await it.know(anna=[False], carl=[True])
        assert it.look(COUNT) == [(1,)]
        user = (await it.relay.api("GET", "/users/shop/anna")).json
        assert [one["id"] for one in user["subscriptions"]] == ["anna/0"]
        await _sync(it)
        user = (await it.relay.api("GET", "/users/shop/anna")).json
        assert {one["id"]: one["subscribed"] for one in user["subscriptions"]} == {
            "s-1": True,
            "s-2": False,
        }
        assert (await _directory(it))["users"] == 3
        SegmentFile(tmp_path).check_figures()


async def test_a_cut_file_is_not_authoritative(tmp_path: Path) -> None:
    """A plain file that ends in mid-line may lack thousands of users; none of them leaves."""
    async with world(tmp_path) as it:
        await it.know(anna=[True], ben=[True])
        head = b"id,device_type,invalid_identifier,external_user_id\n"
        url = f"{it.relay.admin}/api/v1/directory/shop/import?replace=true"
        cut = await it.relay.ask("POST", url, data=head + b"s-1,1,f,anna\ns-2,1,f,be")
        assert (cut.status, "truncated" in cut.json["error"]) == (400, True)
        assert it.look("SELECT external_id FROM users") == [("anna",), ("ben",)]
        whole = await it.relay.ask("POST", url, data=head + b"s-1,1,f,anna\n")
        assert whole.status == 200
        assert it.look("SELECT external_id FROM users") == [("anna",)]
