"""A person undoes what runs did to a segment."""

from pathlib import Path

import pytest

from relay.cohorts.guard import GuardPolicy
from relay.cohorts.staleness import needs_refresh
from relay.segments.decisions import UNDOABLE_RUNS, NotPossible
from relay.segments.segments import Segments
from tests.support.segment_tables import (
    APP,
    NOW,
    SECOND,
    changes,
    cohort_no,
    counted,
    know,
    look,
    members,
    open_table,
    poll,
    runs,
    segment,
    send,
    tidy,
)

DAY_MS = 86_400 * SECOND
LISTS = [["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"], ["a", "e"]]


def _at(step: int) -> int:
    return NOW + step * 600 * SECOND


async def _poll_all(segments: Segments, folder: Path, number: int) -> None:
    """Apply the first lists; list n makes revision n."""
    await know(segments, {user: [True] for user in "abcdex"})
    for step, ids in enumerate(LISTS[:number], start=1):
        await poll(segments, folder, ids, at=_at(step))


def _entered(folder: Path) -> dict[str, int]:
    return dict(look(folder, "SELECT external_id, entered_at FROM segment_members"))


async def test_the_last_run_is_undone(tmp_path: Path) -> None:
    """Who left is back since when it was in, who came is gone, followers hear of both."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 1)
        before = _entered(tmp_path)
        await poll(segments, tmp_path, LISTS[1], at=_at(2))
        run_id = await segments.decisions.roll_back(await cohort_no(segments), None, _at(3))
        assert members(tmp_path) == LISTS[0]
        assert _entered(tmp_path) == before
        assert sorted(changes(tmp_path)[-2:]) == [("a", "entered"), ("c", "left")]
        run = runs(tmp_path)[-1]
        assert (run["run_id"], run["source"], run["state"]) == (run_id, "rollback", "applied")
        assert (run["added"], run["removed"]) == (1, 1)
        found = segment(tmp_path)
        assert (found["revision"], found["applied_at"]) == (3, _at(3))
        counted(tmp_path)


@pytest.mark.parametrize("revision", [2, 3, 4])
async def test_a_revision_whose_runs_are_kept_is_restored(tmp_path: Path, revision: int) -> None:
    """Several runs are undone in one step."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 5)
        await segments.decisions.roll_back(await cohort_no(segments), revision, _at(9))
        assert members(tmp_path) == LISTS[revision - 1]
        assert segment(tmp_path)["revision"] == 6
        counted(tmp_path)


@pytest.mark.parametrize("is_tidied", [False, True])
@pytest.mark.parametrize("revision", [0, 1])
async def test_a_revision_whose_runs_are_not_kept_is_not_made_up(
    tmp_path: Path, revision: int, *, is_tidied: bool
) -> None:
    """Undoing as much as there is would give another revision than the one asked for."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, UNDOABLE_RUNS + 2)
        if is_tidied:
            await tidy(segments)
        with pytest.raises(NotPossible):
            await segments.decisions.roll_back(await cohort_no(segments), revision, _at(9))
        assert members(tmp_path) == LISTS[UNDOABLE_RUNS + 1]


async def test_the_present_revision_needs_no_rollback(tmp_path: Path) -> None:
    """There is nothing to undo to get there."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 2)
        with pytest.raises(NotPossible):
            await segments.decisions.roll_back(await cohort_no(segments), 2, _at(9))


async def test_a_rollback_is_undone_like_any_run(tmp_path: Path) -> None:
    """Second thoughts bring the list back."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 3)
        number = await cohort_no(segments)
        await segments.decisions.roll_back(number, 1, _at(8))
        assert members(tmp_path) == LISTS[0]
        await segments.decisions.roll_back(number, None, _at(9))
        assert members(tmp_path) == LISTS[2]
        assert _entered(tmp_path) == {"c": _at(2), "d": _at(3)}
        counted(tmp_path)


async def test_without_anything_kept_nothing_is_undone(tmp_path: Path) -> None:
    """A cohort that no run ever changed has no other state."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, [])
        with pytest.raises(NotPossible):
            await segments.decisions.roll_back(await cohort_no(segments), None, _at(9))


async def test_the_last_three_runs_can_be_undone_after_tidying_up(tmp_path: Path) -> None:
    """Their history is kept however old it is."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 5)
        await tidy(segments, NOW + 400 * DAY_MS)
        number = await cohort_no(segments)
        await segments.decisions.roll_back(number, 2, _at(9))
        assert members(tmp_path) == LISTS[1]
        counted(tmp_path)


async def test_the_webhook_s_computation_is_undone_as_one(tmp_path: Path) -> None:
    """Its messages were one run."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 1)
        late = {"computed_at": _at(2), "at": _at(2)}
        await send(segments, "m1", "c", "stranger", **late)  # type: ignore[arg-type]  # as named
        await send(segments, "m2", "a", is_entering=False, **late)  # type: ignore[arg-type]
        await send(segments, "m3", "d", "c", is_entering=False, **late)  # type: ignore[arg-type]
        assert members(tmp_path) == ["b"]
        await segments.decisions.roll_back(await cohort_no(segments), None, _at(3))
        assert members(tmp_path) == LISTS[0]
        assert _entered(tmp_path) == {"a": _at(1), "b": _at(1)}
        assert segment(tmp_path)["cohort_size"] == 2
        counted(tmp_path)


@pytest.mark.parametrize("way", ["poll", "webhook"])
async def test_an_approved_shrink_can_be_undone(tmp_path: Path, way: str) -> None:
    """Just then somebody may want that."""
    strict = GuardPolicy(0.0, 0)
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 1)
        before = _entered(tmp_path)
        if way == "poll":
            await poll(segments, tmp_path, [], at=_at(2), guard=strict)
        else:
            await send(
                segments, "m1", "a", "b", is_entering=False, computed_at=_at(2), guard=strict
            )
        await segments.decisions.approve(runs(tmp_path)[-1]["run_id"], _at(3))
        assert members(tmp_path) == []
        await segments.decisions.roll_back(await cohort_no(segments), None, _at(4))
        assert _entered(tmp_path) == before
        counted(tmp_path)


async def test_the_directory_is_not_undone(tmp_path: Path) -> None:
    """Whom OneSignal knows is no matter of the list."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True], "b": [True]})
        await poll(segments, tmp_path, ["a", "late"], at=_at(1))
        await poll(segments, tmp_path, ["b", "late"], at=_at(2))
        await know(segments, {"late": [True]}, _at(3))
        assert segment(tmp_path)["revision"] == 3
        await segments.decisions.roll_back(await cohort_no(segments), None, _at(4))
        assert members(tmp_path) == ["a", "late"]
        assert runs(tmp_path)[2]["source"] == "directory"
        counted(tmp_path)


async def test_the_size_follows_with_its_empty_ids(tmp_path: Path) -> None:
    """The cohort's size is of the file whose members are in force."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, ["a", "b"], empty_ids=3, at=_at(1))
        await poll(segments, tmp_path, ["a"], empty_ids=7, at=_at(2))
        number = await cohort_no(segments)
        await segments.decisions.roll_back(number, None, _at(3))
        assert segment(tmp_path)["cohort_size"] == 5
        await segments.decisions.roll_back(number, None, _at(4))
        assert segment(tmp_path)["cohort_size"] == 8


async def test_a_rollback_is_not_downloaded_away(tmp_path: Path) -> None:
    """The listed computation was applied and judged; only the next one counts again."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 2)
        await segments.decisions.roll_back(await cohort_no(segments), None, _at(3))
        (cohort,) = await segments.catalog.listed(segments.catalog.number(APP), NOW)
        assert not needs_refresh(
            cohort.listed, applied=cohort.applied, rejected=cohort.rejected, held=cohort.held
        )
        await poll(segments, tmp_path, LISTS[2], at=_at(4))
        assert members(tmp_path) == LISTS[2]
        assert _entered(tmp_path) == {"c": _at(4), "d": _at(4)}
        counted(tmp_path)


async def test_a_rollback_during_a_comparison_asks_for_another_look(tmp_path: Path) -> None:
    """The new list is compared with what is in force when it comes into force."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 2)
        number = await cohort_no(segments)

        async def meanwhile() -> None:
            await segments.decisions.roll_back(number, None, _at(3))

        await poll(segments, tmp_path, LISTS[2], at=_at(4), meanwhile=meanwhile)
        assert members(tmp_path) == LISTS[2]
        assert sorted(changes(tmp_path)[-4:]) == [
            ("a", "left"), ("b", "left"), ("c", "entered"), ("d", "entered"),
        ]  # fmt: skip
        counted(tmp_path)


async def test_a_rollback_of_one_cohort_leaves_the_others(tmp_path: Path) -> None:
    """Runs belong to one cohort."""
    async with open_table(tmp_path) as segments:
        await _poll_all(segments, tmp_path, 2)
        await poll(segments, tmp_path, ["e"], cohort_id="c2", at=_at(3))
        await segments.decisions.roll_back(await cohort_no(segments), None, _at(4))
        assert members(tmp_path, "c2") == ["e"]
        await segments.decisions.roll_back(await cohort_no(segments, "c2"), None, _at(5))
        assert members(tmp_path, "c2") == []
        assert segment(tmp_path, "c2")["matched_users"] == 0
        counted(tmp_path)
