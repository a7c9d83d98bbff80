"""Cohorts come in by Amplitude's webhook: its stand-in pushes, relay's table is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.webhook import CohortPush, PushAccount, PushOptions, Update
from relay.sandbox.common.target import Target
from tests.support.cohort_relays import world
from tests.support.relays import (
    COHORT,
    TOKEN,
    Relay,
    app_environment,
    cohort_message,
    running_relay,
)
from tests.support.segment_tables import SegmentFile

FORTY = [f"u{number:02}" for number in range(40)]
ROUGH = PushOptions(users_per_message=3, duplicate_rate=0.5, is_shuffled=True, concurrency=4)
GUARDED: Mapping[str, str] = {"RELAY_COHORTS__GUARD_MIN_MEMBERS": "10"}


def _offline(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**app_environment("shop", "http://127.0.0.1:9"), **(changes or {})}


def _push(relay: Relay, options: PushOptions = ROUGH) -> CohortPush:
    return CohortPush(Target(f"{relay.public}/v1/apps/shop/cohorts", TOKEN), options)


def _moved(account: PushAccount, what: str) -> int:
    """Return how many users the webhook's responses say were added or removed."""
    return sum(int(str(answer[what])) for answer in account.acknowledged.values())


async def test_a_pushed_cohort_is_its_known_members_in_any_order(tmp_path: Path) -> None:
    """In small, shuffled, concurrent and repeated messages every user counts once."""
    known = FORTY[:30]
    async with running_relay(tmp_path, _offline()) as relay:
        await relay.know(*known)
        push = _push(relay)
        cohort = StandInCohort(
            id="c1", name="Buyers", user_ids=FORTY[:25] + FORTY[28:], last_computed_s=1_700_000_000
        )
        account = await push.push(cohort)
        assert (account.failed, _moved(account, "added")) == ([], 27)
        assert SegmentFile(tmp_path).members() == FORTY[:25] + FORTY[28:30]
        changed = cohort.model_copy(
            update={"user_ids": FORTY[5:28], "last_computed_s": 1_700_003_600}
        )
        account = await push.push(changed)
        assert (_moved(account, "added"), _moved(account, "removed")) == (3, 7)
        assert SegmentFile(tmp_path).members() == FORTY[5:28]
        SegmentFile(tmp_path).check_figures()
        found = SegmentFile(tmp_path).segment()
        assert (found["name"], found["state"]) == ("Buyers", "active")
        assert (found["cohort_size"], found["computed_at"]) == (23, 1_700_003_600_000)
        assert {run["source"] for run in SegmentFile(tmp_path).runs()} == {"webhook"}
        assert len(SegmentFile(tmp_path).runs()) == 2


async def test_computations_that_overtake_each_other_end_in_the_last(tmp_path: Path) -> None:
    """Retries of an old sync may arrive hours after the next one."""
    syncs = [
        Update("c1", "Buyers", 1_700_000_000, FORTY[:10]),
        Update("c1", "Buyers", 1_700_003_600, FORTY[10:14], FORTY[:4]),
        Update("c1", "Buyers", 1_700_007_200, FORTY[:2], FORTY[10:12]),
    ]
    async with running_relay(tmp_path, _offline()) as relay:
        await relay.know(*FORTY)
        push = _push(relay)
        for place in (2, 0, 1):
            assert (await push.send(syncs[place])).failed == []
        assert SegmentFile(tmp_path).members() == FORTY[:2] + FORTY[4:10] + FORTY[12:14]
        SegmentFile(tmp_path).check_figures()


async def _mass_exit(relay: Relay) -> int:
    """Add forty users and remove all but ten; return the held run."""
    await relay.know(*FORTY)
    push = _push(relay, PushOptions(users_per_message=3))
    await push.send(Update("c1", "Buyers", 1_700_000_000, FORTY))
    account = await push.send(Update("c1", "Buyers", 1_700_003_600, leaving=FORTY[:30]))
    assert _moved(account, "removed") == 6
    (held,) = (await relay.api("GET", "/cohort-runs?state=held")).json["items"]
    return int(held["run_id"])


@pytest.mark.parametrize(("decision", "left"), [("approve", FORTY[30:]), ("reject", FORTY[6:])])
async def test_a_mass_exit_in_small_messages_is_held(
    tmp_path: Path, decision: str, left: list[str]
) -> None:
    """Also across a restart; a decision holds for the rest of the computation."""
    async with running_relay(tmp_path, _offline(GUARDED)) as relay:
        run = await _mass_exit(relay)
        assert SegmentFile(tmp_path).segment()["state"] == "held"
        assert SegmentFile(tmp_path).members() == FORTY[6:]
    async with running_relay(tmp_path, _offline(GUARDED)) as relay:
        assert SegmentFile(tmp_path).members() == FORTY[6:]
        answer = await relay.api("POST", f"/cohort-runs/{run}/{decision}")
        assert (answer.status, answer.json) == (200, {"affected": 1})
        assert SegmentFile(tmp_path).members() == left
        late = cohort_message(9, FORTY[39], entering=False, computed_at=1_700_003_600)
        answer = await relay.post(late | {"cohort_id": "c1"}, webhook="cohorts")
        assert (answer.json["held"], answer.json["removed"]) == (False, decision == "approve")
        assert SegmentFile(tmp_path).segment()["state"] == "active"
        SegmentFile(tmp_path).check_figures()


async def test_a_message_repeated_across_a_restart_is_recognised(tmp_path: Path) -> None:
    """Amplitude repeats for hours."""
    async with running_relay(tmp_path, _offline()) as relay:
        await relay.know("anna")
        await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        leaving = cohort_message(2, "anna", entering=False, computed_at=1_700_000_000)
        await relay.post(leaving, webhook="cohorts")
    async with running_relay(tmp_path, _offline()) as relay:
        answer = await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        assert answer.json["duplicate"] is True
        assert SegmentFile(tmp_path).members(COHORT) == []


def _computed_s(cohort: StandInCohort) -> int:
    assert cohort.last_computed_s is not None
    return cohort.last_computed_s


async def test_polls_and_pushes_of_one_cohort_agree(tmp_path: Path) -> None:
    """A newer message overrides an older file and is overridden by a newer one."""
    query = "SELECT external_id FROM segment_members ORDER BY external_id"

    def are(*names: str) -> Any:  # noqa: ANN401  # a test of rows
        return lambda rows: [name for (name,) in rows] == list(names)

    async with world(tmp_path) as it:
        await it.know(a=[True], b=[True], c=[True])
        first_s = _computed_s(it.cohorts.put(StandInCohort(id="c1", user_ids=["a", "b"])))
        await it.until(query, are("a", "b"))
        push = _push(it.relay, PushOptions())
        account = await push.send(Update("c1", "c1", first_s - 60, ["c"], ["a"]))
        assert (_moved(account, "added"), _moved(account, "removed")) == (0, 0)
        await push.send(Update("c1", "c1", first_s + 3_600, ["c"], ["a"]))
        assert SegmentFile(tmp_path).members() == ["b", "c"]
        it.cohorts.put(
            StandInCohort(id="c1", user_ids=["a", "b", "x"], last_computed_s=first_s + 60)
        )
        await it.until("SELECT count(*) FROM runs WHERE source = 'poll' AND state <> 'running'",
                       lambda rows: rows == [(2,)])  # fmt: skip
        assert SegmentFile(tmp_path).members() == ["b", "c"]
        it.cohorts.put(StandInCohort(id="c1", user_ids=["a", "b"], last_computed_s=first_s + 7_200))
        await it.until(query, are("a", "b"))
        SegmentFile(tmp_path).check_figures()


async def test_a_pushed_cohort_the_list_never_shows_stays_active(tmp_path: Path) -> None:
    """Polling neither marks it missing nor downloads it."""
    async with world(tmp_path) as it:
        await it.know(a=[True])
        await it.relay.post(cohort_message(1, "a"), webhook="cohorts")
        it.cohorts.put(StandInCohort(id="c1", user_ids=["a"]))
        await it.until("SELECT count(*) FROM segments", lambda rows: rows == [(2,)])
        it.cohorts.remove("c1")
        await it.until(
            "SELECT state FROM segments WHERE cohort_id = 'c1'", lambda rows: rows == [("stale",)]
        )
        assert SegmentFile(tmp_path).segment(COHORT)["state"] == "active"
        assert {call.cohort_id for call in it.cohorts.requests if call.operation == "request"} == {
            "c1"
        }


@pytest.mark.parametrize("polled", ["all", "none", "other"])
async def test_the_webhook_works_whatever_is_polled(tmp_path: Path, polled: str) -> None:
    """COHORTS selects what is polled; pushed cohorts were chosen in Amplitude."""
    async with running_relay(tmp_path, _offline({"RELAY_APPS__SHOP__COHORTS": polled})) as relay:
        await relay.know("anna")
        answer = await relay.post(cohort_message(1, "anna"), webhook="cohorts")
        assert (answer.status, answer.json["added"]) == (200, 1)
        assert SegmentFile(tmp_path).members(COHORT) == ["anna"]
