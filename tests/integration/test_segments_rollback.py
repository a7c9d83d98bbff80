"""An operator undoes what runs did to a segment."""

from pathlib import Path

import pytest

from relay.errors import Conflict
from relay.segments.review import UNDOABLE_RUNS
from tests.support.segment_tables import (
    DAY_MS,
    NOW,
    SECOND,
    STRICT,
    SegmentTable,
    open_table,
)

LISTS = [["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"], ["a", "e"]]


def _at(step: int) -> int:
    return NOW + step * 600 * SECOND


async def _poll_all(table: SegmentTable, number: int) -> None:
    """Apply the first lists; list n makes revision n."""
    await table.know({user: [True] for user in "abcdex"})
    for step, ids in enumerate(LISTS[:number], start=1):
        await table.poll(ids, at=_at(step))


async def test_the_last_run_is_undone(tmp_path: Path) -> None:
    """Leavers are back with their entry instants, new members are gone, followers see both."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 1)
        before = table.entered()
        await table.poll(LISTS[1], at=_at(2))
        run_id = await table.store.review.roll_back(await table.cohort_no(), None, _at(3))
        assert table.members() == LISTS[0]
        assert table.entered() == before
        assert sorted(table.changes()[-2:]) == [("a", "entered"), ("c", "left")]
        run = table.runs()[-1]
        assert (run["run_id"], run["source"], run["state"]) == (run_id, "rollback", "applied")
        assert (run["added"], run["removed"]) == (1, 1)
        found = table.segment()
        assert (found["revision"], found["applied_at"]) == (3, _at(3))
        table.check_figures()


@pytest.mark.parametrize("revision", [2, 3, 4])
async def test_a_revision_whose_runs_are_kept_is_restored(tmp_path: Path, revision: int) -> None:
    """Several runs are undone in one step."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 5)
        await table.store.review.roll_back(await table.cohort_no(), revision, _at(9))
        assert table.members() == LISTS[revision - 1]
        assert table.segment()["revision"] == 6
        table.check_figures()


@pytest.mark.parametrize("is_tidied", [False, True])
@pytest.mark.parametrize("revision", [0, 1])
async def test_a_revision_whose_runs_are_pruned_cannot_be_restored(
    tmp_path: Path, revision: int, *, is_tidied: bool
) -> None:
    """A partial rollback would give another revision than the requested one."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, UNDOABLE_RUNS + 2)
        if is_tidied:
            await table.tidy()
        with pytest.raises(Conflict):
            await table.store.review.roll_back(await table.cohort_no(), revision, _at(9))
        assert table.members() == LISTS[UNDOABLE_RUNS + 1]


async def test_the_present_revision_needs_no_rollback(tmp_path: Path) -> None:
    """There is nothing to undo."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 2)
        with pytest.raises(Conflict):
            await table.store.review.roll_back(await table.cohort_no(), 2, _at(9))


async def test_a_rollback_is_undone_like_any_run(tmp_path: Path) -> None:
    """Undoing the rollback restores the list."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 3)
        number = await table.cohort_no()
        await table.store.review.roll_back(number, 1, _at(8))
        assert table.members() == LISTS[0]
        await table.store.review.roll_back(number, None, _at(9))
        assert table.members() == LISTS[2]
        assert table.entered() == {"c": _at(2), "d": _at(3)}
        table.check_figures()


async def test_without_runs_nothing_can_be_undone(tmp_path: Path) -> None:
    """A cohort without runs has no other state."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll([])
        with pytest.raises(Conflict):
            await table.store.review.roll_back(await table.cohort_no(), None, _at(9))


async def test_the_last_three_runs_can_be_undone_after_tidying_up(tmp_path: Path) -> None:
    """Their history is kept however old it is."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 5)
        await table.tidy(NOW + 400 * DAY_MS)
        number = await table.cohort_no()
        await table.store.review.roll_back(number, 2, _at(9))
        assert table.members() == LISTS[1]
        table.check_figures()


async def test_the_webhook_s_computation_is_undone_as_one(tmp_path: Path) -> None:
    """Its messages were one run."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 1)
        late = {"computed_at": _at(2), "at": _at(2)}
        await table.send("m1", "c", "stranger", **late)  # type: ignore[arg-type]  # as named
        await table.send("m2", "a", is_entering=False, **late)  # type: ignore[arg-type]
        await table.send("m3", "d", "c", is_entering=False, **late)  # type: ignore[arg-type]
        assert table.members() == ["b"]
        await table.store.review.roll_back(await table.cohort_no(), None, _at(3))
        assert table.members() == LISTS[0]
        assert table.entered() == {"a": _at(1), "b": _at(1)}
        assert table.segment()["cohort_size"] == 2
        table.check_figures()


@pytest.mark.parametrize("way", ["poll", "webhook"])
async def test_an_approved_shrink_can_be_undone(tmp_path: Path, way: str) -> None:
    """That is when it is wanted."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 1)
        before = table.entered()
        if way == "poll":
            await table.poll([], at=_at(2), guard=STRICT)
        else:
            await table.send("m1", "a", "b", is_entering=False, computed_at=_at(2), guard=STRICT)
        await table.store.review.approve(table.runs()[-1]["run_id"], _at(3))
        assert table.members() == []
        await table.store.review.roll_back(await table.cohort_no(), None, _at(4))
        assert table.entered() == before
        table.check_figures()


async def test_the_directory_is_not_undone(tmp_path: Path) -> None:
    """A rollback restores lists, not known users."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.poll(["a", "late"], at=_at(1))
        await table.poll(["b", "late"], at=_at(2))
        await table.know({"late": [True]}, _at(3))
        assert table.segment()["revision"] == 3
        await table.store.review.roll_back(await table.cohort_no(), None, _at(4))
        assert table.members() == ["a", "late"]
        assert table.runs()[2]["source"] == "directory"
        table.check_figures()


async def test_the_size_follows_with_its_empty_ids(tmp_path: Path) -> None:
    """The cohort's size is that of the file in force."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a", "b"], empty_ids=3, at=_at(1))
        await table.poll(["a"], empty_ids=7, at=_at(2))
        number = await table.cohort_no()
        await table.store.review.roll_back(number, None, _at(3))
        assert table.segment()["cohort_size"] == 5
        await table.store.review.roll_back(number, None, _at(4))
        assert table.segment()["cohort_size"] == 8


async def test_a_rollback_is_not_reverted_by_a_download(tmp_path: Path) -> None:
    """The listed computation was applied and judged; only the next one counts again."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 2)
        await table.store.review.roll_back(await table.cohort_no(), None, _at(3))
        assert not await table.is_refresh_needed()
        await table.poll(LISTS[2], at=_at(4))
        assert table.members() == LISTS[2]
        assert table.entered() == {"c": _at(4), "d": _at(4)}
        table.check_figures()


async def test_a_rollback_during_a_comparison_repeats_the_comparison(tmp_path: Path) -> None:
    """A new list is compared with the one in force when it is published."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 2)
        number = await table.cohort_no()

        async def meanwhile() -> None:
            await table.store.review.roll_back(number, None, _at(3))

        await table.poll(LISTS[2], at=_at(4), meanwhile=meanwhile)
        assert table.members() == LISTS[2]
        assert sorted(table.changes()[-4:]) == [
            ("a", "left"), ("b", "left"), ("c", "entered"), ("d", "entered"),
        ]  # fmt: skip
        table.check_figures()


async def test_a_rollback_of_one_cohort_leaves_the_others(tmp_path: Path) -> None:
    """Runs belong to one cohort."""
    async with open_table(tmp_path) as table:
        await _poll_all(table, 2)
        await table.poll(["e"], cohort_id="c2", at=_at(3))
        await table.store.review.roll_back(await table.cohort_no(), None, _at(4))
        assert table.members("c2") == ["e"]
        await table.store.review.roll_back(await table.cohort_no("c2"), None, _at(5))
        assert table.members("c2") == []
        assert table.segment("c2")["matched_users"] == 0
        table.check_figures()
