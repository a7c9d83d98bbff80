"""An erased user is in no table of the segments any more, and does not come back."""

from contextlib import closing
from pathlib import Path

import pytest

from relay.segments.cohorts import AppRules
from tests.support.segment_tables import APP, KNOWN, NOW, SECOND, STRICT, SegmentTable, open_table

USER = "user-to-be-forgotten"
T1, T2, T3 = (NOW + step * 600 * SECOND for step in (1, 2, 3))


def _places(table: SegmentTable) -> list[str]:
    """Return every place in the file with the id, whatever the schema is."""
    found = []
    with closing(table.connect()) as raw:
        tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in tables:
            columns = raw.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
            for (column,) in columns:
                query = f"SELECT count(*) FROM {name} WHERE instr({column}, ?)"
                (number,) = raw.execute(query, (USER,)).fetchone()
                found += [f"{name}.{column}"] * number
    return found


async def _put_everywhere(table: SegmentTable) -> None:
    """Put the user into every table: lists, runs, overrides, history, directory."""
    await table.know({USER: [True, False], "a": [True], "b": [True]})
    await table.poll([USER, "a", "b"], cohort_id="held")
    await table.poll(["a", USER], cohort_id="held", at=T1, guard=STRICT)
    await table.poll([USER, "a"], cohort_id="left")
    await table.poll(["a"], cohort_id="left", at=T1)
    await table.send("m1", USER, "a", cohort_id="pushed", computed_at=T1)
    await table.send(
        "m2", USER, is_entering=False, cohort_id="pushed", computed_at=T2, guard=STRICT
    )
    await table.poll([USER], cohort_id="running")
    run = await table.begin_run("running", size=2, at=T3)
    for sql in (
        "INSERT INTO listed (list, external_id) VALUES (:run, :user)",
        "INSERT INTO run_changes (run, external_id, change) VALUES (:run, :user, 1)",
    ):
        await table.store.database.execute(sql, {"run": run, "user": USER})


async def test_the_id_leaves_every_table_but_for_one_last_change(tmp_path: Path) -> None:
    """The one remaining row tells followers of each segment that the user left."""
    async with open_table(tmp_path) as table:
        await _put_everywhere(table)
        filled = {place.split(".")[0] for place in _places(table)}
        assert filled == {"listed", "run_changes", "marks", "changes", "users", "subscriptions"}
        await table.forget(USER, T3)
        assert _places(table) == ["changes.external_id"] * 4
        for name in ("held", "left", "pushed", "running"):
            logged = [change for change in table.changes(name) if change[0] == USER]
            assert logged == [(USER, "left")]
            assert table.changes(name)[-1] == (USER, "left")
            assert USER not in table.members(name)
        table.check_figures()
        await table.tidy(T3 + 8 * 86_400 * SECOND)
        assert _places(table) == []


async def test_figures_and_revision_follow(tmp_path: Path) -> None:
    """Readers of the segment see that it changed, and when."""
    async with open_table(tmp_path) as table:
        await table.know({USER: [True, True], "a": [True]})
        await table.poll([USER, "a"])
        await table.forget(USER, T1)
        found = table.segment()
        assert (found["cohort_size"], found["matched_users"], found["subscribed_count"]) == (
            1,
            1,
            1,
        )
        assert (found["revision"], found["applied_at"]) == (2, T1)
        run = table.runs()[-1]
        assert (run["source"], run["removed"]) == ("directory", 1)


@pytest.mark.parametrize("user", ["stranger", "NA", "0"])
@pytest.mark.parametrize("rules", [KNOWN, AppRules(takes_all=True, segment_limit=None)])
async def test_every_listed_user_can_be_erased(tmp_path: Path, user: str, rules: AppRules) -> None:
    """Known or not, restricted or not: the figures stay correct."""
    async with open_table(tmp_path, rules) as table:
        await table.know({"a": [True]})
        await table.poll([user, "a"])
        was_member = user in table.members()
        logged = table.changes()
        await table.forget(user)
        assert table.members() == ["a"]
        assert table.changes() == ([("a", "entered"), (user, "left")] if was_member else logged)
        table.check_figures()


async def test_neither_approval_nor_rollback_brings_the_user_back(tmp_path: Path) -> None:
    """Stored runs no longer have the user."""
    async with open_table(tmp_path) as table:
        await _put_everywhere(table)
        await table.forget(USER, T3)
        for name in ("held", "pushed"):
            run = next(run for run in table.runs(name) if run["state"] == "held")
            await table.store.review.approve(run["run_id"], T3)
        for name in ("held", "left", "pushed"):
            await table.store.review.roll_back(await table.cohort_no(name), None, T3)
        assert table.members("held") == ["a", "b"]
        assert set(_places(table)) == {"changes.external_id"}
        assert len(_places(table)) == 4
        table.check_figures()


async def test_a_user_erased_during_a_comparison_stays_out(tmp_path: Path) -> None:
    """Staged rows are searched too."""
    async with open_table(tmp_path) as table:
        await table.know({USER: [True], "a": [True]})
        await table.poll(["a"])

        async def meanwhile() -> None:
            await table.forget(USER, T1)

        await table.poll(["a", USER], at=T1, meanwhile=meanwhile)
        assert (table.members(), _places(table)) == (["a"], [])
        table.check_figures()


async def test_an_erased_id_is_recognised_after_a_restart(tmp_path: Path) -> None:
    """By a salted hash; the id itself is not stored."""
    async with open_table(tmp_path) as table:
        await table.know({USER: [True]})
        await table.poll([USER, "a"])
        await table.forget(USER)
    async with open_table(tmp_path) as table:
        number = table.store.cohorts.number(APP)
        assert (number, USER) in table.store.forgotten
        assert (number, "a") not in table.store.forgotten
        assert table.store.forgotten.without(number, ["a", USER]) == ["a"]
        await table.apply_export({USER: {"s": True}, "a": {"t": True}}, asked_at=T1)
        assert table.members() == ["a"]
        assert table.look("SELECT external_id FROM subscriptions") == [("a",)]


async def test_the_same_id_of_another_app_is_another_user(tmp_path: Path) -> None:
    """Apps share nothing."""
    async with open_table(tmp_path, apps=(APP, "other")) as table:
        for app in (APP, "other"):
            await table.know({USER: [True]}, app=app)
            await table.send("m1", USER, cohort_id=app, app=app)
        await table.forget(USER)
        assert table.members(APP) == []
        assert table.members("other") == [USER]
        assert table.changes("other") == [(USER, "entered")]
        assert (table.store.cohorts.number("other"), USER) not in table.store.forgotten


async def test_erasing_twice_or_an_unknown_user_does_no_harm(tmp_path: Path) -> None:
    """An operator who is not sure asks again."""
    async with open_table(tmp_path) as table:
        await table.know({USER: [True], "a": [True]})
        await table.poll([USER, "a"])
        for user in (USER, USER, "nobody"):
            await table.forget(user)
        assert table.changes() == [("a", "entered"), (USER, "left")]
        assert table.members() == ["a"]
        table.check_figures()


async def test_a_user_who_left_the_directory_before_is_erased_too(tmp_path: Path) -> None:
    """Neither a member nor known, but still in lists and history."""
    async with open_table(tmp_path) as table:
        await table.know({USER: [True], "a": [True]})
        await table.poll([USER, "a"])
        await table.apply_export({"a": {"t": True}}, asked_at=T1, drops_users=True)
        assert table.members() == ["a"]
        await table.forget(USER, T2)
        assert _places(table) == ["changes.external_id"]
        assert table.segment()["cohort_size"] == 1
        table.check_figures()
