"""Segments and runs at the admin door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.relays import (
    COHORT,
    Relay,
    app_environment,
    cohort_message,
    running_relay,
)

SEGMENT = f"/segments/shop/{COHORT}"
FIRST_AT = 1_692_206_763


def offline(**changes: str) -> dict[str, str]:
    """Return the settings of an app whose Amplitude is unreachable."""
    return {**app_environment("shop", "http://127.0.0.1:9"), **changes}


@asynccontextmanager
async def with_segment(tmp_path: Path, *users: str, **changes: str) -> AsyncIterator[Relay]:
    """Run a relay with a segment of these users."""
    async with running_relay(tmp_path, offline(**changes)) as relay:
        await relay.know(*users)
        await push(relay, cohort_message(1, *users))
        yield relay


async def push(relay: Relay, message: dict[str, object]) -> dict[str, Any]:
    """Post a message to the cohorts webhook."""
    answer = await relay.post(message, webhook="cohorts")
    assert answer.status == 200
    told: dict[str, Any] = answer.json
    return told


async def test_a_segment_is_shown_with_its_figures(tmp_path: Path) -> None:
    """List and detail agree with the view; the detail adds explanation and history."""
    async with with_segment(tmp_path, "anna", "ben") as relay:
        await push(relay, cohort_message(2, "stranger", "NA", ""))
        (item,) = (await relay.api("GET", "/segments")).json["items"]
        assert {**item, "applied_at": 0} == {
            "app": "shop",
            "cohort_id": COHORT,
            "name": "Buyers",
            "state": "active",
            "cohort_size": 4,
            "matched_users": 2,
            "subscribed_count": 2,
            "revision": 1,
            "computed_at": FIRST_AT * 1000,
            "applied_at": 0,
        }
        detail = (await relay.api("GET", SEGMENT)).json
        assert {name: detail[name] for name in item} == item
        assert detail["explanation"]["unknown_users"] == 1
        assert detail["explanation"]["restricted_ids"] == 1
        assert detail["last_run"]["source"] == "webhook"
        assert (detail["next_download_at"], detail["waits_for"]) == (None, None)
        (run,) = detail["undoable"]
        assert (run["run_id"], run["added"]) == (detail["last_run"]["run_id"], 2)
        assert run["leads_back_to"] == 0


async def test_segments_are_listed_page_by_page_and_by_state(tmp_path: Path) -> None:
    """`next` continues until it is null; filters narrow the list."""
    async with with_segment(tmp_path, "anna") as relay:
        for number in range(2, 6):
            other = cohort_message(number, "anna") | {"cohort_id": f"other/{number}"}
            await push(relay, other)
        seen: list[str] = []
        after: int | None = 0
        while after is not None:
            page = (await relay.api("GET", f"/segments?app=shop&limit=2&after={after}")).json
            seen += [item["cohort_id"] for item in page["items"]]
            after = page["next"]
        assert sorted(seen) == sorted({COHORT, *(f"other/{number}" for number in range(2, 6))})
        assert (await relay.api("GET", "/segments?state=archived")).json == {
            "items": [],
            "next": None,
        }
        assert (await relay.api("GET", "/segments/shop/other%2F3")).json["matched_users"] == 1


async def test_members_are_streamed(tmp_path: Path) -> None:
    """All of them, one object per line."""
    users = [f"user-{number:04}" for number in range(2_500)]
    changes = {"RELAY_APPS__SHOP__MEMBERSHIP": "all"}
    async with running_relay(tmp_path, offline(**changes)) as relay:
        await push(relay, cohort_message(1, *users))
        lines = await relay.lines(f"{SEGMENT}/members")
        assert [line["external_id"] for line in lines] == users
        assert {type(line["entered_at"]) for line in lines} == {int}


async def test_a_stream_cut_by_a_stop_is_visibly_incomplete(tmp_path: Path) -> None:
    """The reader notices the missing end; the stop does not wait long for readers."""
    changes = {"RELAY_APPS__SHOP__MEMBERSHIP": "all"}
    async with aiohttp.ClientSession() as session:
        async with running_relay(tmp_path, offline(**changes)) as relay:
            for number in range(6):  # more than the socket buffers hold
                users = [f"{number}-{place}-{'x' * 500}" for place in range(7_000)]
                await push(relay, cohort_message(number, *users))
            answer = await session.get(f"{relay.admin}/api/v1{SEGMENT}/members")
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_changes_are_followed_from_one_to_the_next(tmp_path: Path) -> None:
    """`next` never decreases, so a follower misses and repeats nothing."""
    async with with_segment(tmp_path, "anna", "ben", "cleo") as relay:
        await push(relay, cohort_message(2, "anna", entering=False))
        heard: list[tuple[str, str]] = []
        after = 0
        while True:
            page = (await relay.api("GET", f"{SEGMENT}/changes?after={after}&limit=2")).json
            if not page["items"]:
                break
            heard += [(item["external_id"], item["change"]) for item in page["items"]]
            assert page["next"] == page["items"][-1]["seq"] > after
            after = page["next"]
        assert page["next"] == after
        assert sorted(heard) == [
            ("anna", "entered"),
            ("anna", "left"),
            ("ben", "entered"),
            ("cleo", "entered"),
        ]
        lines = await relay.lines(f"{SEGMENT}/changes?after=0")
        assert [(line["external_id"], line["change"]) for line in lines] == heard
        assert set(lines[0]) == {"seq", "external_id", "change", "run_id", "at"}
        assert await relay.lines(f"{SEGMENT}/changes?after={after}") == []


async def test_an_explanation_adds_up_and_lists_the_ids(tmp_path: Path) -> None:
    """Every id of the list is behind one of the numbers."""
    async with with_segment(tmp_path, "anna") as relay:
        await relay.know("ben", subscribed=False)
        await relay.api("PUT", "/directory/shop/cleo", {"subscriptions": []})
        await push(relay, cohort_message(2, "ben", "cleo", "stranger", "NULL"))
        numbers = (await relay.api("GET", f"{SEGMENT}/explain")).json
        assert numbers == {
            "cohort_size": 5,
            "empty_ids": 0,
            "restricted_ids": 1,
            "unknown_users": 1,
            "matched_users": 3,
            "matched_without_subscription": 1,
            "only_unsubscribed": 1,
            "subscribed_users": 1,
            "subscribed_count": 1,
        }
        for group, ids in (
            ("restricted_ids", ["NULL"]),
            ("unknown_users", ["stranger"]),
            ("matched_users", ["anna", "ben", "cleo"]),
            ("matched_without_subscription", ["cleo"]),
            ("only_unsubscribed", ["ben"]),
            ("subscribed_users", ["anna"]),
        ):
            lines = await relay.lines(f"{SEGMENT}/explain?list={group}")
            assert [line["external_id"] for line in lines] == ids
        wrong = await relay.api("GET", f"{SEGMENT}/explain?list=everybody")
        assert (wrong.status, "unknown_users" in wrong.json["error"]) == (400, True)


async def test_a_cohort_without_a_segment_is_explained_too(tmp_path: Path) -> None:
    """That is when it is needed most: no user of the cohort is known."""
    async with running_relay(tmp_path, offline()) as relay:
        await push(relay, cohort_message(1, "stranger"))
        assert (await relay.api("GET", "/segments")).json["items"] == []
        assert (await relay.api("GET", SEGMENT)).status == 404
        numbers = (await relay.api("GET", f"{SEGMENT}/explain")).json
        assert (numbers["cohort_size"], numbers["unknown_users"]) == (1, 1)
        lines = await relay.lines(f"{SEGMENT}/explain?list=unknown_users")
        assert [line["external_id"] for line in lines] == ["stranger"]


@asynccontextmanager
async def with_held_run(tmp_path: Path) -> AsyncIterator[tuple[Relay, int]]:
    """Run a relay with a segment of ten, eight of whom would leave."""
    users = [f"user-{number}" for number in range(10)]
    changes = {"RELAY_COHORTS__GUARD_MIN_MEMBERS": "10"}
    async with with_segment(tmp_path, *users, **changes) as relay:
        leaving = cohort_message(2, *users[:8], entering=False, computed_at=FIRST_AT + 1)
        assert (await push(relay, leaving))["held"]
        (run,) = (await relay.api("GET", "/cohort-runs?state=held")).json["items"]
        yield relay, run["run_id"]


async def test_a_held_run_is_approved_once(tmp_path: Path) -> None:
    """The held changes are applied; a second approval is an error."""
    async with with_held_run(tmp_path) as (relay, run):
        assert (await relay.api("GET", SEGMENT)).json["state"] == "held"
        approved = await relay.api("POST", f"/cohort-runs/{run}/approve")
        assert (approved.status, approved.json) == (200, {"affected": 1})
        segment = (await relay.api("GET", SEGMENT)).json
        assert (segment["state"], segment["matched_users"]) == ("active", 2)
        for decision in ("approve", "reject"):
            again = await relay.api("POST", f"/cohort-runs/{run}/{decision}")
            assert (again.status, set(again.json)) == (409, {"error"})


async def test_a_held_run_is_rejected(tmp_path: Path) -> None:
    """The segment stays unchanged."""
    async with with_held_run(tmp_path) as (relay, run):
        rejected = await relay.api("POST", f"/cohort-runs/{run}/reject")
        assert (rejected.status, rejected.json) == (200, {"affected": 1})
        segment = (await relay.api("GET", SEGMENT)).json
        assert (segment["state"], segment["matched_users"]) == ("active", 10)


async def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    """`next` continues with older ones."""
    async with with_held_run(tmp_path) as (relay, held):
        first = (await relay.api("GET", f"/cohort-runs?app=shop&cohort_id={COHORT}&limit=1")).json
        assert [item["run_id"] for item in first["items"]] == [held] == [first["next"]]
        second = (await relay.api("GET", f"/cohort-runs?limit=1&after={held}")).json
        (item,) = second["items"]
        assert (item["run_id"] < held, item["state"], item["added"]) == (True, "applied", 10)
        assert (await relay.api("GET", "/cohort-runs?cohort_id=other")).json["items"] == []


async def test_a_segment_is_rolled_back(tmp_path: Path) -> None:
    """A run can be undone, and so can the rollback; a pruned revision is an error."""
    async with with_segment(tmp_path, "anna", "ben") as relay:
        leaving = cohort_message(2, "anna", entering=False, computed_at=FIRST_AT + 1)
        await push(relay, leaving)
        (newest, _) = (await relay.api("GET", SEGMENT)).json["undoable"]
        back = await relay.api("POST", f"{SEGMENT}/rollback", {"revision": newest["leads_back_to"]})
        assert (back.status, back.json) == (200, {"affected": 1})
        assert [line["external_id"] for line in await relay.lines(f"{SEGMENT}/members")] == [
            "anna",
            "ben",
        ]
        assert (await relay.api("POST", f"{SEGMENT}/rollback", {})).status == 200
        assert len(await relay.lines(f"{SEGMENT}/members")) == 1
        refused = await relay.api("POST", f"{SEGMENT}/rollback", {"revision": 1000})
        assert (refused.status, set(refused.json)) == (409, {"error"})


async def test_a_sync_needs_polling(tmp_path: Path) -> None:
    """Without a secret key nothing can be downloaded, and the error says so."""
    async with with_segment(tmp_path, "anna") as relay:
        answer = await relay.api("POST", f"{SEGMENT}/sync")
        assert answer.status == 409
        assert "SECRET_KEY" in answer.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/segments?app=nobody", None, 404),
        ("GET", "/segments?state=gone", None, 400),
        ("GET", "/segments?limit=1001", None, 400),
        ("GET", f"/segments/nobody/{COHORT}", None, 404),
        ("GET", "/segments/shop/other", None, 404),
        ("GET", "/segments/shop/other/members", None, 404),
        ("GET", "/segments/shop/other/changes", None, 404),
        ("GET", "/segments/shop/other/explain", None, 404),
        ("GET", f"/segments/nobody/{COHORT}/explain?list=unknown_users", None, 404),
        ("GET", f"{SEGMENT}/changes?after=-1", None, 400),
        ("GET", f"{SEGMENT}/changes?colour=red", None, 400),
        ("GET", "/cohort-runs?app=nobody", None, 404),
        ("GET", "/cohort-runs?state=lost", None, 400),
        ("POST", "/cohort-runs/999/approve", None, 404),
        ("POST", "/cohort-runs/999/reject", None, 404),
        ("POST", "/cohort-runs/first/approve", None, 404),
        ("POST", f"/cohort-runs/{10**30}/approve", None, 404),
        ("POST", f"/segments/nobody/{COHORT}/sync", None, 404),
        ("POST", "/segments/shop/other/rollback", {}, 404),
        ("POST", f"{SEGMENT}/rollback", {"revision": -1}, 400),
        ("POST", f"{SEGMENT}/rollback", {"to": 1}, 400),
        ("GET", f"{SEGMENT}/rollback", None, 405),
    ],
)
async def test_mistakes_are_answered_with_what_is_wrong(
    tmp_path: Path, method: str, path: str, body: object, status: int
) -> None:
    """400, 404 or 405 with an error message; nothing changes."""
    async with with_segment(tmp_path, "anna") as relay:
        answer = await relay.api(method, path, body)
        assert (answer.status, set(answer.json)) == (status, {"error"})
        assert (await relay.api("GET", SEGMENT)).json["matched_users"] == 1


async def test_status_and_metrics_agree_on_segments(tmp_path: Path) -> None:
    """Both show the same numbers, and metrics name no user or cohort."""
    async with running_relay(tmp_path, offline()) as relay:
        empty = (await relay.api("GET", "/status")).json["segments"]["shop"]
        assert set(empty) == {
            "active", "held", "stale", "archived", "downloads_this_month", "downloads_left",
            "next_download_at", "last_run_at", "last_error",
        }  # fmt: skip
        assert (empty["active"], empty["last_run_at"]) == (0, None)
        text = (await relay.ask("GET", f"{relay.admin}/metrics")).body.decode()
        assert "relay_cohort_last_applied_timestamp_seconds{" not in text
    async with with_held_run(tmp_path) as (relay, _):
        status = (await relay.api("GET", "/status")).json["segments"]["shop"]
        assert (status["held"], status["active"], status["downloads_this_month"]) == (1, 0, 0)
        segment = (await relay.api("GET", SEGMENT)).json
        assert status["last_run_at"] >= segment["applied_at"]
        text = (await relay.ask("GET", f"{relay.admin}/metrics")).body.decode()
        for state in ("active", "held", "stale", "archived"):
            assert f'relay_segments{{app="shop",state="{state}"}} {status[state]}.0' in text
        left = float(status["downloads_left"])
        assert f'relay_cohort_downloads_left{{app="shop"}} {left}' in text
        name = 'relay_cohort_last_applied_timestamp_seconds{app="shop"} '
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        assert float(line.removeprefix(name)) == segment["applied_at"] / 1000
        assert "user-" not in text
        assert COHORT not in text


async def test_the_document_describes_every_operation(tmp_path: Path) -> None:
    """The OpenAPI document has segments, runs, users and the directory."""
    async with running_relay(tmp_path, offline()) as relay:
        document = (await relay.api("GET", "/openapi.json")).json
        described = {
            f"{method} {path.removeprefix('/api/v1')}"
            for path, item in document["paths"].items()
            for method in item
        }
        assert described >= {
            "get /segments",
            "get /segments/{app}/{cohort_id}",
            "get /segments/{app}/{cohort_id}/members",
            "get /segments/{app}/{cohort_id}/changes",
            "get /segments/{app}/{cohort_id}/explain",
            "post /segments/{app}/{cohort_id}/sync",
            "post /segments/{app}/{cohort_id}/rollback",
            "get /cohort-runs",
            "post /cohort-runs/{run_id}/approve",
            "post /cohort-runs/{run_id}/reject",
            "get /users/{app}/{external_id}",
            "delete /users/{app}/{external_id}",
            "put /directory/{app}/{external_id}",
            "get /directory/{app}",
            "post /directory/{app}/import",
            "post /directory/{app}/sync",
        }
