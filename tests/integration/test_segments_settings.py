"""What an app's settings say of its segments, also when they change at a restart."""

from pathlib import Path

import pytest

from relay.cohorts.restricted import RESTRICTED_IDS
from relay.segments.catalog import AppRules
from tests.support.segment_tables import (
    KNOWN,
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
    take_export,
)

ALL = AppRules(takes_all=True, segment_limit=None)
T1, T2 = (NOW + step * 60 * SECOND for step in (1, 2))


def _limit(number: int | None) -> AppRules:
    return AppRules(takes_all=False, segment_limit=number)


def _names(folder: Path) -> list[str]:
    return [name for (name,) in look(folder, "SELECT cohort_id FROM segments ORDER BY 1")]


async def test_with_all_every_id_but_restricted_ones_is_a_member(tmp_path: Path) -> None:
    """OneSignal takes those ids from nobody; unless it knows one, nobody is reached by it."""
    async with open_table(tmp_path, ALL) as segments:
        await know(segments, {"a": [True], "0": [True]})
        await poll(segments, tmp_path, ["a", "b", *RESTRICTED_IDS])
        assert members(tmp_path) == ["0", "a", "b"]
        numbers = await segments.reading.explain(await cohort_no(segments))
        assert (numbers.restricted_ids, numbers.unknown_users) == (len(RESTRICTED_IDS) - 1, 0)
        assert (numbers.matched_users, numbers.matched_without_subscription) == (3, 1)
        counted(tmp_path)


async def test_with_all_becoming_known_is_no_change_of_membership(tmp_path: Path) -> None:
    """The figures follow, the followers hear nothing; a restricted id does enter."""
    async with open_table(tmp_path, ALL) as segments:
        await poll(segments, tmp_path, ["a", "NA"])
        await know(segments, {"a": [True]}, T1)
        assert changes(tmp_path) == [("a", "entered")]
        assert segment(tmp_path)["subscribed_count"] == 1
        await know(segments, {"NA": [False]}, T2)
        assert changes(tmp_path) == [("a", "entered"), ("NA", "entered")]
        counted(tmp_path)
        await take_export(segments, tmp_path, {}, asked_at=T2 + 60 * SECOND, drops_users=True)
        assert members(tmp_path) == ["a"]
        counted(tmp_path)


async def test_a_restart_with_the_other_membership_moves_the_segments(tmp_path: Path) -> None:
    """Who becomes a member by it, or is none any more, is told as a run of the directory."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, ["a", "b", "c", "NA"], empty_ids=1)
        await poll(segments, tmp_path, ["x"], cohort_id="c2")
    assert _names(tmp_path) == ["c1"]
    async with open_table(tmp_path, ALL):
        assert (members(tmp_path), members(tmp_path, "c2")) == (["a", "b", "c"], ["x"])
        counted(tmp_path)
    assert changes(tmp_path)[1:] == [("b", "entered"), ("c", "entered")]
    async with open_table(tmp_path, ALL):
        assert segment(tmp_path)["revision"] == 2
    async with open_table(tmp_path, KNOWN):
        assert members(tmp_path) == ["a"]
        assert segment(tmp_path, "c2")["matched_users"] == 0
        counted(tmp_path)
    assert sorted(changes(tmp_path)[3:]) == [("b", "left"), ("c", "left")]
    assert [(run["source"], run["added"], run["removed"]) for run in runs(tmp_path)[1:]] == [
        ("directory", 2, 0),
        ("directory", 0, 2),
    ]
    assert segment(tmp_path)["cohort_size"] == 5


@pytest.mark.parametrize("limit", [0, 1, 2])
async def test_no_segment_is_made_past_the_limit(tmp_path: Path, limit: int) -> None:
    """Cohorts past it are counted and followed, but are no segments."""
    async with open_table(tmp_path, _limit(limit)) as segments:
        await know(segments, {"a": [True]})
        for name in ("c1", "c2", "c3"):
            await send(segments, f"m-{name}", "a", "b", cohort_id=name)
        assert _names(tmp_path) == ["c1", "c2", "c3"][:limit]
        await know(segments, {"b": [True]}, T1)
        assert _names(tmp_path) == ["c1", "c2", "c3"][:limit]
        assert (members(tmp_path, "c3"), changes(tmp_path, "c3")) == ([], [])
        counted(tmp_path)


async def test_a_raised_limit_makes_the_segments_it_allows(tmp_path: Path) -> None:
    """Without a download, with everybody who is in them by now, told to whoever follows."""
    async with open_table(tmp_path, _limit(1)) as segments:
        await know(segments, {"a": [True], "b": [True]})
        for name in ("c1", "c2", "c3"):
            await send(segments, f"m-{name}", "a", "b", cohort_id=name)
    async with open_table(tmp_path, _limit(2)):
        assert _names(tmp_path) == ["c1", "c2"]
        assert members(tmp_path, "c2") == ["a", "b"]
        assert sorted(changes(tmp_path, "c2")) == [("a", "entered"), ("b", "entered")]
        assert segment(tmp_path, "c2")["revision"] == 1
    async with open_table(tmp_path, _limit(None)):
        assert _names(tmp_path) == ["c1", "c2", "c3"]
        counted(tmp_path)


async def test_a_lowered_limit_takes_no_segment_away(tmp_path: Path) -> None:
    """It is a limit for making them; those that are there go on, also empty."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        for name in ("c1", "c2"):
            await send(segments, f"m-{name}", "a", cohort_id=name)
    async with open_table(tmp_path, _limit(1)) as segments:
        await send(segments, "m-3", "a", cohort_id="c2", is_entering=False, computed_at=T1)
        assert segment(tmp_path, "c2")["matched_users"] == 0
        await send(segments, "m-4", "a", cohort_id="c2", computed_at=T2)
        assert (_names(tmp_path), members(tmp_path, "c2")) == (["c1", "c2"], ["a"])


async def test_restricted_ids_are_counted_apart_letter_for_letter(tmp_path: Path) -> None:
    """Other spellings are ids like any other."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True], "1": [True]})
        outcome = await poll(
            segments, tmp_path, ["a", "na", "ALL", "00", *RESTRICTED_IDS], empty_ids=3
        )
        numbers = await segments.reading.explain(await cohort_no(segments))
        assert numbers._asdict() == {
            "cohort_size": 4 + len(RESTRICTED_IDS) + 3,
            "empty_ids": 3,
            "restricted_ids": len(RESTRICTED_IDS) - 1,
            "unknown_users": 3,
            "matched_users": 2,
            "matched_without_subscription": 0,
            "only_unsubscribed": 0,
            "subscribed_users": 2,
            "subscribed_count": 2,
        }
        assert outcome.unknown_users == runs(tmp_path)[0]["unknown_users"] == 3
        await know(segments, {"NULL": [True]}, T1)
        assert members(tmp_path) == ["1", "NULL", "a"]
        counted(tmp_path)


async def test_an_app_that_left_the_settings_keeps_its_segments(tmp_path: Path) -> None:
    """It may come back."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, ["a"])
    async with open_table(tmp_path, apps=("other",)) as segments:
        assert list(segments.catalog.apps) == ["other"]
        assert members(tmp_path) == ["a"]
    async with open_table(tmp_path) as segments:
        await know(segments, {"b": [True]})
        await poll(segments, tmp_path, ["b"], at=T1)
        assert members(tmp_path) == ["b"]
