"""The guard: no mass removal without an operator's approval."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from relay.errors import Conflict, NotFound
from tests.support.segment_tables import NOW, SECOND, SMALL, TEN, SegmentTable, open_table

FIRST, SECOND_TIME, THIRD = (NOW + step * 60 * SECOND for step in (1, 2, 3))


async def _ten_members(table: SegmentTable) -> None:
    """Make a segment of ten, and two more known users."""
    await table.know({user: [True] for user in (*TEN, "n1", "n2", "n3")})
    assert (await table.poll(TEN, guard=SMALL)).state == "applied"


@pytest.mark.parametrize(
    ("size", "removed", "state"),
    [
        (10, 2, "applied"),
        (10, 3, "held"),
        (10, 10, "held"),
        (5, 1, "applied"),
        (5, 2, "held"),
        (4, 3, "applied"),
        (4, 4, "applied"),
    ],
)
async def test_a_run_is_held_above_the_ratio_and_the_minimum(
    tmp_path: Path, size: int, removed: int, state: str
) -> None:
    """Exactly the ratio passes; a small segment may even become empty."""
    async with open_table(tmp_path) as table:
        await table.know({user: [True] for user in TEN})
        await table.poll(TEN[:size], guard=SMALL)
        left = TEN[removed:size]
        outcome = await table.poll(left, guard=SMALL, at=FIRST)
        assert outcome.state == state
        assert table.members() == (TEN[:size] if state == "held" else left)
        assert table.segment()["state"] == ("held" if state == "held" else "active")
        table.check_figures()


async def test_only_members_count_for_the_guard(tmp_path: Path) -> None:
    """Unknown ids may leave: the segment loses no member."""
    async with open_table(tmp_path) as table:
        await table.know({user: [True] for user in TEN})
        unknown = [f"s{number}" for number in range(30)]
        await table.poll(TEN + unknown, guard=SMALL)
        outcome = await table.poll(TEN, guard=SMALL, at=FIRST)
        assert (outcome.state, outcome.removed) == ("applied", 0)
        assert table.segment()["cohort_size"] == 10


async def test_a_held_run_holds_its_additions_too(tmp_path: Path) -> None:
    """A list that is implausible in part is not applied in part."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        before, logged = table.segment(), table.changes()
        outcome = await table.poll(["u0", "n1"], guard=SMALL, at=FIRST)
        assert (outcome.state, outcome.added, outcome.removed) == ("held", 0, 0)
        assert table.segment() == before | {"state": "held"}
        assert (table.members(), table.changes()) == (TEN, logged)
        run = table.runs()[-1]
        assert (run["state"], run["source"], run["members"]) == ("held", "poll", 2)
        assert "9 of 10" in str(run["reason"])
        assert not await table.is_refresh_needed()


async def test_a_held_list_outlives_tidying_up_and_a_restart(tmp_path: Path) -> None:
    """An operator may take days to decide."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await table.poll(["u0", "n1"], guard=SMALL, at=FIRST)
        await table.tidy(NOW + 1_000 * 86_400 * SECOND)
    async with open_table(tmp_path) as table:
        await table.store.review.approve(table.runs()[-1]["run_id"], SECOND_TIME)
        assert table.members() == ["n1", "u0"]
        table.check_figures()


async def test_approval_applies_the_downloaded_list(tmp_path: Path) -> None:
    """Additions included, under the held run, and once."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await table.poll(["u0", "n1", "s"], guard=SMALL, at=FIRST, empty_ids=2)
        run_id = table.runs()[-1]["run_id"]
        await table.store.review.approve(run_id, SECOND_TIME)
        assert table.members() == ["n1", "u0"]
        run = table.runs()[-1]
        assert (run["run_id"], run["state"]) == (run_id, "applied")
        assert (run["added"], run["removed"], run["unknown_users"]) == (1, 9, 1)
        found = table.segment()
        assert (found["state"], found["cohort_size"], found["revision"]) == ("active", 5, 2)
        assert (found["computed_at"], found["applied_at"]) == (FIRST, SECOND_TIME)
        table.check_figures()
        with pytest.raises(Conflict):
            await table.store.review.approve(run_id, SECOND_TIME)
        assert not await table.is_refresh_needed()


async def test_approval_keeps_newer_webhook_messages(tmp_path: Path) -> None:
    """The file is as old as its computation; later messages override it."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await table.poll(["u0", "u1", "n1"], guard=SMALL, at=SECOND_TIME)
        later = {"computed_at": THIRD, "at": THIRD, "guard": SMALL}
        await table.send("m1", "u2", "n2", **later)  # type: ignore[arg-type]  # as named
        await table.send("m2", "u1", is_entering=False, **later)  # type: ignore[arg-type]
        earlier = FIRST
        await table.send("m3", "n3", computed_at=earlier, at=THIRD, guard=SMALL)
        assert "n3" in table.members()
        held = next(run for run in table.runs() if run["state"] == "held")
        await table.store.review.approve(held["run_id"], THIRD + SECOND)
        assert table.members() == ["n1", "n2", "u0", "u2"]
        table.check_figures()


async def test_a_rejected_run_changes_nothing_and_is_not_downloaded_again(tmp_path: Path) -> None:
    """A judged computation is not downloaded or held again until it changes."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        before = table.segment()
        await table.poll(["u0"], guard=SMALL, at=FIRST)
        run_id = table.runs()[-1]["run_id"]
        await table.store.review.reject(run_id, SECOND_TIME)
        assert (table.segment(), table.members()) == (before, TEN)
        assert table.runs()[-1]["state"] == "rejected"
        assert not await table.is_refresh_needed()
        for decide in (table.store.review.approve, table.store.review.reject):
            with pytest.raises(Conflict):
                await decide(run_id, THIRD)
        await table.tidy()
        outcome = await table.poll(TEN[:9], guard=SMALL, at=THIRD)
        assert (outcome.state, table.members()) == ("applied", TEN[:9])
        table.check_figures()


async def test_a_missing_run_cannot_be_reviewed(tmp_path: Path) -> None:
    """A mistyped number is an error."""
    async with open_table(tmp_path) as table:
        for decide in (table.store.review.approve, table.store.review.reject):
            with pytest.raises(NotFound):
                await decide(77, NOW)


@pytest.mark.parametrize(
    ("ids", "state"), [([*TEN, "n1"], "applied"), (TEN[:9], "applied"), (TEN, "unchanged")]
)
async def test_a_newer_plausible_run_overtakes_a_held_one(
    tmp_path: Path, ids: list[str], state: str
) -> None:
    """Amplitude has corrected itself; there is nothing left to decide."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await table.poll(["u0"], guard=SMALL, at=FIRST)
        outcome = await table.poll(ids, guard=SMALL, at=SECOND_TIME)
        assert outcome.state == state
        held, _ = table.runs()[-2:]
        assert held["state"] == "rejected"
        assert "overtaken" in str(held["reason"])
        assert table.segment()["state"] == "active"
        assert table.members() == sorted(ids)
        with pytest.raises(Conflict):
            await table.store.review.approve(held["run_id"], THIRD)


async def test_of_two_implausible_runs_the_newer_one_is_held(tmp_path: Path) -> None:
    """There is one decision to make, about the latest run."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await table.poll(["u0"], guard=SMALL, at=FIRST)
        await table.poll(["u1"], guard=SMALL, at=SECOND_TIME)
        assert [run["state"] for run in table.runs()] == ["applied", "rejected", "held"]
        await table.store.review.approve(table.runs()[-1]["run_id"], THIRD)
        assert table.members() == ["u1"]
        table.check_figures()


async def test_a_first_download_is_never_held(tmp_path: Path) -> None:
    """Without a segment there are no members to lose."""
    async with open_table(tmp_path) as table:
        await table.know({user: [True] for user in TEN})
        assert (await table.poll(TEN, guard=SMALL)).state == "applied"


async def test_of_two_concurrent_reviews_one_counts_and_the_other_fails(tmp_path: Path) -> None:
    """Two operators with the same dashboard: neither may believe what did not happen."""
    async with open_table(tmp_path) as table:
        await _ten_members(table)
        await table.poll(["u0"], guard=SMALL, at=FIRST)
        run_id = table.runs()[-1]["run_id"]
        done: list[str] = []

        async def decide(name: str, decision: Callable[[int, int], Awaitable[None]]) -> None:
            with suppress(Conflict):
                await decision(run_id, SECOND_TIME)
                done.append(name)

        async with anyio.create_task_group() as group:
            group.start_soon(decide, "applied", table.store.review.approve)
            group.start_soon(decide, "rejected", table.store.review.reject)
        assert done == [table.runs()[-1]["state"]]
        table.check_figures()
