"""How an app's settings shape its segments, also when they change at a restart."""

from pathlib import Path

import pytest

from relay.onesignal.restricted_ids import RESTRICTED_IDS
from relay.segments.cohorts import AppRules
from tests.support.segment_tables import KNOWN, NOW, SECOND, SegmentFile, open_table

ALL = AppRules(takes_all=True, segment_limit=None)
T1, T2 = (NOW + step * 60 * SECOND for step in (1, 2))


def _limit(number: int | None) -> AppRules:
    return AppRules(takes_all=False, segment_limit=number)


def _names(table: SegmentFile) -> list[str]:
    return [name for (name,) in table.look("SELECT cohort_id FROM segments ORDER BY 1")]


async def test_with_all_every_id_but_restricted_ones_is_a_member(tmp_path: Path) -> None:
    """OneSignal refuses those ids; unless it knows one, no user is reached by it."""
    async with open_table(tmp_path, ALL) as table:
        await table.know({"a": [True], "0": [True]})
        await table.poll(["a", "b", *RESTRICTED_IDS])
        assert table.members() == ["0", "a", "b"]
        numbers = await table.store.read_model.explain(await table.cohort_no())
        assert (numbers.restricted_ids, numbers.unknown_users) == (len(RESTRICTED_IDS) - 1, 0)
        assert (numbers.matched_users, numbers.matched_without_subscription) == (3, 1)
        table.check_figures()


async def test_with_all_becoming_known_is_no_change_of_membership(tmp_path: Path) -> None:
    """Figures follow, followers see nothing; a restricted id does enter."""
    async with open_table(tmp_path, ALL) as table:
        await table.poll(["a", "NA"])
        await table.know({"a": [True]}, T1)
        assert table.changes() == [("a", "entered")]
        assert table.segment()["subscribed_count"] == 1
        await table.know({"NA": [False]}, T2)
        assert table.changes() == [("a", "entered"), ("NA", "entered")]
        table.check_figures()
        await table.apply_export({}, asked_at=T2 + 60 * SECOND, drops_users=True)
        assert table.members() == ["a"]
        table.check_figures()


async def test_a_restart_with_the_other_membership_moves_the_segments(tmp_path: Path) -> None:
    """Users who enter or leave by it are logged under a run of the directory."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a", "b", "c", "NA"], empty_ids=1)
        await table.poll(["x"], cohort_id="c2")
    assert _names(table) == ["c1"]
    async with open_table(tmp_path, ALL):
        assert (table.members(), table.members("c2")) == (["a", "b", "c"], ["x"])
        table.check_figures()
    assert table.changes()[1:] == [("b", "entered"), ("c", "entered")]
    async with open_table(tmp_path, ALL):
        assert table.segment()["revision"] == 2
    async with open_table(tmp_path, KNOWN):
        assert table.members() == ["a"]
        assert table.segment("c2")["matched_users"] == 0
        table.check_figures()
    assert sorted(table.changes()[3:]) == [("b", "left"), ("c", "left")]
    assert [(run["source"], run["added"], run["removed"]) for run in table.runs()[1:]] == [
        ("directory", 2, 0),
        ("directory", 0, 2),
    ]
    assert table.segment()["cohort_size"] == 5


@pytest.mark.parametrize("limit", [0, 1, 2])
async def test_no_segment_is_made_past_the_limit(tmp_path: Path, limit: int) -> None:
    """Cohorts past it are counted and followed, but have no segments."""
    async with open_table(tmp_path, _limit(limit)) as table:
        await table.know({"a": [True]})
        for name in ("c1", "c2", "c3"):
            await table.send(f"m-{name}", "a", "b", cohort_id=name)
        assert _names(table) == ["c1", "c2", "c3"][:limit]
        await table.know({"b": [True]}, T1)
        assert _names(table) == ["c1", "c2", "c3"][:limit]
        assert (table.members("c3"), table.changes("c3")) == ([], [])
        table.check_figures()


async def test_a_raised_limit_makes_the_segments_it_allows(tmp_path: Path) -> None:
    """Without a download, with all members they have by now, logged for followers."""
    async with open_table(tmp_path, _limit(1)) as table:
        await table.know({"a": [True], "b": [True]})
        for name in ("c1", "c2", "c3"):
            await table.send(f"m-{name}", "a", "b", cohort_id=name)
    async with open_table(tmp_path, _limit(2)):
        assert _names(table) == ["c1", "c2"]
        assert table.members("c2") == ["a", "b"]
        assert sorted(table.changes("c2")) == [("a", "entered"), ("b", "entered")]
        assert table.segment("c2")["revision"] == 1
    async with open_table(tmp_path, _limit(None)):
        assert _names(table) == ["c1", "c2", "c3"]
        table.check_figures()


async def test_a_lowered_limit_removes_no_segment(tmp_path: Path) -> None:
    """It limits new segments; existing ones stay, even empty."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        for name in ("c1", "c2"):
            await table.send(f"m-{name}", "a", cohort_id=name)
    async with open_table(tmp_path, _limit(1)) as table:
        await table.send("m-3", "a", cohort_id="c2", is_entering=False, computed_at=T1)
        assert table.segment("c2")["matched_users"] == 0
        await table.send("m-4", "a", cohort_id="c2", computed_at=T2)
        assert (_names(table), table.members("c2")) == (["c1", "c2"], ["a"])


async def test_restricted_ids_are_counted_apart_and_case_sensitive(tmp_path: Path) -> None:
    """Other spellings are ordinary ids."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "1": [True]})
        outcome = await table.poll(["a", "na", "ALL", "00", *RESTRICTED_IDS], empty_ids=3)
        numbers = await table.store.read_model.explain(await table.cohort_no())
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
        assert outcome.unknown_users == table.runs()[0]["unknown_users"] == 3
        await table.know({"NULL": [True]}, T1)
        assert table.members() == ["1", "NULL", "a"]
        table.check_figures()


async def test_an_app_that_left_the_settings_keeps_its_segments(tmp_path: Path) -> None:
    """It may come back."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a"])
    async with open_table(tmp_path, apps=("other",)) as table:
        assert list(table.store.cohorts.apps) == ["other"]
        assert table.members() == ["a"]
    async with open_table(tmp_path) as table:
        await table.know({"b": [True]})
        await table.poll(["b"], at=T1)
        assert table.members() == ["b"]
