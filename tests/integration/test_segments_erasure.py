"""A forgotten user is in no table of the segments any more, and does not come back."""

from contextlib import closing
from pathlib import Path

import pytest

from relay.segments.cohorts import AppRules
from tests.support.segment_tables import APP, KNOWN, NOW, SECOND, STRICT, SegmentTable, open_table

WHO = "user-to-be-forgotten"
T1, T2, T3 = (NOW + step * 600 * SECOND for step in (1, 2, 3))


def _places(table: SegmentTable) -> list[str]:
    """Return every place of the file where the id stands, whatever the schema is."""
    found = []
    with closing(table.connect()) as raw:
        tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in tables:
            columns = raw.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
            for (column,) in columns:
                query = f"SELECT count(*) FROM {name} WHERE instr({column}, ?)"
                (number,) = raw.execute(query, (WHO,)).fetchone()
                found += [f"{name}.{column}"] * number
    return found


async def _stand_everywhere(table: SegmentTable) -> None:
    """Put the user into every table there is: lists, runs, marks, history, directory."""
    await table.know({WHO: [True, False], "a": [True], "b": [True]})
    await table.poll([WHO, "a", "b"], cohort_id="held")
    await table.poll(["a", WHO], cohort_id="held", at=T1, guard=STRICT)
    await table.poll([WHO, "a"], cohort_id="left")
    await table.poll(["a"], cohort_id="left", at=T1)
    await table.send("m1", WHO, "a", cohort_id="pushed", computed_at=T1)
    await table.send("m2", WHO, is_entering=False, cohort_id="pushed", computed_at=T2, guard=STRICT)
    await table.poll([WHO], cohort_id="running")
    run = await table.begin_run("running", size=2, at=T3)
    for sql in (
        "INSERT INTO listed (list, external_id) VALUES (:run, :who)",
        "INSERT INTO run_changes (run, external_id, change) VALUES (:run, :who, 1)",
    ):
        await table.store.database.execute(sql, {"run": run, "who": WHO})


async def test_the_id_leaves_every_table_but_for_one_last_word(tmp_path: Path) -> None:
    """Followers of each of the user's segments hear once that the user left."""
    async with open_table(tmp_path) as table:
        await _stand_everywhere(table)
        filled = {place.split(".")[0] for place in _places(table)}
        assert filled == {"listed", "run_changes", "marks", "changes", "users", "subscriptions"}
        await table.forget(WHO, T3)
        assert _places(table) == ["changes.external_id"] * 4
        for name in ("held", "left", "pushed", "running"):
            logged = [change for change in table.changes(name) if change[0] == WHO]
            assert logged == [(WHO, "left")]
            assert table.changes(name)[-1] == (WHO, "left")
            assert WHO not in table.members(name)
        table.check_figures()
        await table.tidy(T3 + 8 * 86_400 * SECOND)
        assert _places(table) == []


async def test_figures_and_revision_follow(tmp_path: Path) -> None:
    """A reader of the segment sees that it changed, and when."""
    async with open_table(tmp_path) as table:
        await table.know({WHO: [True, True], "a": [True]})
        await table.poll([WHO, "a"])
        await table.forget(WHO, T1)
        found = table.segment()
        assert (found["cohort_size"], found["matched_users"], found["subscribed_count"]) == (
            1,
            1,
            1,
        )
        assert (found["revision"], found["applied_at"]) == (2, T1)
        run = table.runs()[-1]
        assert (run["source"], run["removed"]) == ("directory", 1)


@pytest.mark.parametrize("who", ["stranger", "NA", "0"])
@pytest.mark.parametrize("rules", [KNOWN, AppRules(takes_all=True, segment_limit=None)])
async def test_every_listed_user_can_be_forgotten(
    tmp_path: Path, who: str, rules: AppRules
) -> None:
    """Known or not, restricted or not: the figures stay true."""
    async with open_table(tmp_path, rules) as table:
        await table.know({"a": [True]})
        await table.poll([who, "a"])
        was_member = who in table.members()
        logged = table.changes()
        await table.forget(who)
        assert table.members() == ["a"]
        assert table.changes() == ([("a", "entered"), (who, "left")] if was_member else logged)
        table.check_figures()


async def test_neither_approval_nor_rollback_brings_the_user_back(tmp_path: Path) -> None:
    """What is kept of runs is kept without the user."""
    async with open_table(tmp_path) as table:
        await _stand_everywhere(table)
        await table.forget(WHO, T3)
        for name in ("held", "pushed"):
            run = next(run for run in table.runs(name) if run["state"] == "held")
            await table.store.review.approve(run["run_id"], T3)
        for name in ("held", "left", "pushed"):
            await table.store.review.roll_back(await table.cohort_no(name), None, T3)
        assert table.members("held") == ["a", "b"]
        assert set(_places(table)) == {"changes.external_id"}
        assert len(_places(table)) == 4
        table.check_figures()


async def test_a_user_forgotten_during_a_comparison_stays_out(tmp_path: Path) -> None:
    """What is staged already is searched too."""
    async with open_table(tmp_path) as table:
        await table.know({WHO: [True], "a": [True]})
        await table.poll(["a"])

        async def meanwhile() -> None:
            await table.forget(WHO, T1)

        await table.poll(["a", WHO], at=T1, meanwhile=meanwhile)
        assert (table.members(), _places(table)) == (["a"], [])
        table.check_figures()


async def test_a_forgotten_id_is_recognised_after_a_restart(tmp_path: Path) -> None:
    """By a salted hash; the id itself is not kept."""
    async with open_table(tmp_path) as table:
        await table.know({WHO: [True]})
        await table.poll([WHO, "a"])
        await table.forget(WHO)
    async with open_table(tmp_path) as table:
        number = table.store.cohorts.number(APP)
        assert (number, WHO) in table.store.forgotten
        assert (number, "a") not in table.store.forgotten
        assert table.store.forgotten.without(number, ["a", WHO]) == ["a"]
        await table.apply_export({WHO: {"s": True}, "a": {"t": True}}, asked_at=T1)
        assert table.members() == ["a"]
        assert table.look("SELECT external_id FROM subscriptions") == [("a",)]


async def test_the_same_id_of_another_app_is_another_person(tmp_path: Path) -> None:
    """Apps share nothing."""
    async with open_table(tmp_path, apps=(APP, "other")) as table:
        for app in (APP, "other"):
            await table.know({WHO: [True]}, app=app)
            await table.send("m1", WHO, cohort_id=app, app=app)
        await table.forget(WHO)
        assert table.members(APP) == []
        assert table.members("other") == [WHO]
        assert table.changes("other") == [(WHO, "entered")]
        assert (table.store.cohorts.number("other"), WHO) not in table.store.forgotten


async def test_forgetting_twice_or_an_unknown_user_does_no_harm(tmp_path: Path) -> None:
    """An operator who is not sure asks again."""
    async with open_table(tmp_path) as table:
        await table.know({WHO: [True], "a": [True]})
        await table.poll([WHO, "a"])
        for who in (WHO, WHO, "nobody"):
            await table.forget(who)
        assert table.changes() == [("a", "entered"), (WHO, "left")]
        assert table.members() == ["a"]
        table.check_figures()


async def test_a_user_who_left_the_directory_before_is_forgotten_too(tmp_path: Path) -> None:
    """No member, not known, but still in lists and history."""
    async with open_table(tmp_path) as table:
        await table.know({WHO: [True], "a": [True]})
        await table.poll([WHO, "a"])
        await table.apply_export({"a": {"t": True}}, asked_at=T1, drops_users=True)
        assert table.members() == ["a"]
        await table.forget(WHO, T2)
        assert _places(table) == ["changes.external_id"]
        assert table.segment()["cohort_size"] == 1
        table.check_figures()
