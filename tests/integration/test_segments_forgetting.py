"""A forgotten user is in no table of the segments any more, and does not come back."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from relay.cohorts.guard import GuardPolicy
from relay.cohorts.staleness import Watermark
from relay.segments.catalog import AppRules
from relay.segments.polls import Polls
from relay.segments.runs import Export
from relay.segments.segments import DATABASE_NAME, Segments
from tests.support.segment_tables import (
    APP,
    KNOWN,
    NOW,
    SECOND,
    changes,
    cohort_no,
    counted,
    forget,
    know,
    look,
    members,
    open_table,
    poll,
    runs,
    segment,
    send,
    take_export,
    tidy,
)

STRICT = GuardPolicy(0.0, 0)
WHO = "user-to-be-forgotten"
T1, T2, T3 = (NOW + step * 600 * SECOND for step in (1, 2, 3))


def _places(folder: Path) -> list[str]:
    """Return every place of the file where the id stands, whatever the schema is."""
    found = []
    with closing(sqlite3.connect(f"file:{folder / DATABASE_NAME}?mode=ro", uri=True)) as raw:
        tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            columns = raw.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
            for (column,) in columns:
                query = f"SELECT count(*) FROM {table} WHERE instr({column}, ?)"
                (number,) = raw.execute(query, (WHO,)).fetchone()
                found += [f"{table}.{column}"] * number
    return found


async def _stand_everywhere(segments: Segments, folder: Path) -> None:
    """Put the user into every table there is: lists, runs, marks, history, directory."""
    await know(segments, {WHO: [True, False], "a": [True], "b": [True]})
    await poll(segments, folder, [WHO, "a", "b"], cohort_id="held")
    await poll(segments, folder, ["a", WHO], cohort_id="held", at=T1, guard=STRICT)
    await poll(segments, folder, [WHO, "a"], cohort_id="left")
    await poll(segments, folder, ["a"], cohort_id="left", at=T1)
    await send(segments, "m1", WHO, "a", cohort_id="pushed", computed_at=T1)
    await send(
        segments, "m2", WHO, is_entering=False, cohort_id="pushed", computed_at=T2, guard=STRICT
    )
    await poll(segments, folder, [WHO], cohort_id="running")
    number = await cohort_no(segments, "running")
    polls = Polls(segments.database)
    run = await polls.begin(number, Watermark(T3, T3, 2), Export("e"), T3)
    for sql in (
        "INSERT INTO listed (list, external_id) VALUES (:run, :who)",
        "INSERT INTO run_changes (run, external_id, change) VALUES (:run, :who, 1)",
    ):
        await segments.database.execute(sql, {"run": run, "who": WHO})


async def test_the_id_leaves_every_table_but_for_one_last_word(tmp_path: Path) -> None:
    """Followers of each of the user's segments hear once that the user left."""
    async with open_table(tmp_path) as segments:
        await _stand_everywhere(segments, tmp_path)
        filled = {place.split(".")[0] for place in _places(tmp_path)}
        assert filled == {"listed", "run_changes", "marks", "changes", "users", "subscriptions"}
        await forget(segments, WHO, T3)
        assert _places(tmp_path) == ["changes.external_id"] * 4
        for name in ("held", "left", "pushed", "running"):
            told = [change for change in changes(tmp_path, name) if change[0] == WHO]
            assert told == [(WHO, "left")]
            assert changes(tmp_path, name)[-1] == (WHO, "left")
            assert WHO not in members(tmp_path, name)
        counted(tmp_path)
        await tidy(segments, T3 + 8 * 86_400 * SECOND)
        assert _places(tmp_path) == []


async def test_figures_and_revision_follow(tmp_path: Path) -> None:
    """A reader of the segment sees that it changed, and when."""
    async with open_table(tmp_path) as segments:
        await know(segments, {WHO: [True, True], "a": [True]})
        await poll(segments, tmp_path, [WHO, "a"])
        await forget(segments, WHO, T1)
        found = segment(tmp_path)
        assert (found["cohort_size"], found["matched_users"], found["subscribed_count"]) == (
            1,
            1,
            1,
        )
        assert (found["revision"], found["applied_at"]) == (2, T1)
        run = runs(tmp_path)[-1]
        assert (run["source"], run["removed"]) == ("directory", 1)


@pytest.mark.parametrize("who", ["stranger", "NA", "0"])
@pytest.mark.parametrize("rules", [KNOWN, AppRules(takes_all=True, segment_limit=None)])
async def test_whoever_is_listed_can_be_forgotten(
    tmp_path: Path, who: str, rules: AppRules
) -> None:
    """Known or not, restricted or not: the figures stay true."""
    async with open_table(tmp_path, rules) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, [who, "a"])
        was_member = who in members(tmp_path)
        told = changes(tmp_path)
        await forget(segments, who)
        assert members(tmp_path) == ["a"]
        assert changes(tmp_path) == ([("a", "entered"), (who, "left")] if was_member else told)
        counted(tmp_path)


async def test_neither_approval_nor_rollback_brings_the_user_back(tmp_path: Path) -> None:
    """What is kept of runs is kept without the user."""
    async with open_table(tmp_path) as segments:
        await _stand_everywhere(segments, tmp_path)
        await forget(segments, WHO, T3)
        for name in ("held", "pushed"):
            run = next(run for run in runs(tmp_path, name) if run["state"] == "held")
            await segments.decisions.approve(run["run_id"], T3)
        for name in ("held", "left", "pushed"):
            await segments.decisions.roll_back(await cohort_no(segments, name), None, T3)
        assert members(tmp_path, "held") == ["a", "b"]
        assert set(_places(tmp_path)) == {"changes.external_id"}
        assert len(_places(tmp_path)) == 4
        counted(tmp_path)


async def test_a_user_forgotten_during_a_comparison_stays_out(tmp_path: Path) -> None:
    """What is staged already is searched too."""
    async with open_table(tmp_path) as segments:
        await know(segments, {WHO: [True], "a": [True]})
        await poll(segments, tmp_path, ["a"])

        async def meanwhile() -> None:
            await forget(segments, WHO, T1)

        await poll(segments, tmp_path, ["a", WHO], at=T1, meanwhile=meanwhile)
        assert (members(tmp_path), _places(tmp_path)) == (["a"], [])
        counted(tmp_path)


async def test_a_forgotten_id_is_recognised_after_a_restart(tmp_path: Path) -> None:
    """By a salted hash; the id itself is not kept."""
    async with open_table(tmp_path) as segments:
        await know(segments, {WHO: [True]})
        await poll(segments, tmp_path, [WHO, "a"])
        await forget(segments, WHO)
    async with open_table(tmp_path) as segments:
        number = segments.catalog.number(APP)
        assert (number, WHO) in segments.forgotten
        assert (number, "a") not in segments.forgotten
        assert segments.forgotten.without(number, ["a", WHO]) == ["a"]
        await take_export(segments, tmp_path, {WHO: {"s": True}, "a": {"t": True}}, asked_at=T1)
        assert members(tmp_path) == ["a"]
        assert look(tmp_path, "SELECT external_id FROM subscriptions") == [("a",)]


async def test_the_same_id_of_another_app_is_another_person(tmp_path: Path) -> None:
    """Apps share nothing."""
    async with open_table(tmp_path, apps=(APP, "other")) as segments:
        for app in (APP, "other"):
            await know(segments, {WHO: [True]}, app=app)
            await send(segments, "m1", WHO, cohort_id=app, app=app)
        await forget(segments, WHO)
        assert members(tmp_path, APP) == []
        assert members(tmp_path, "other") == [WHO]
        assert changes(tmp_path, "other") == [(WHO, "entered")]
        assert (segments.catalog.number("other"), WHO) not in segments.forgotten


async def test_forgetting_twice_or_nobody_does_no_harm(tmp_path: Path) -> None:
    """Whoever is not sure asks again."""
    async with open_table(tmp_path) as segments:
        await know(segments, {WHO: [True], "a": [True]})
        await poll(segments, tmp_path, [WHO, "a"])
        for who in (WHO, WHO, "nobody"):
            await forget(segments, who)
        assert changes(tmp_path) == [("a", "entered"), (WHO, "left")]
        assert members(tmp_path) == ["a"]
        counted(tmp_path)


async def test_a_user_who_left_the_directory_before_is_forgotten_too(tmp_path: Path) -> None:
    """No member, not known, but still in lists and history."""
    async with open_table(tmp_path) as segments:
        await know(segments, {WHO: [True], "a": [True]})
        await poll(segments, tmp_path, [WHO, "a"])
        await take_export(segments, tmp_path, {"a": {"t": True}}, asked_at=T1, drops_users=True)
        assert members(tmp_path) == ["a"]
        await forget(segments, WHO, T2)
        assert _places(tmp_path) == ["changes.external_id"]
        assert segment(tmp_path)["cohort_size"] == 1
        counted(tmp_path)
