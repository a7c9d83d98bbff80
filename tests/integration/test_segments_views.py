"""The segment table as other programs read it, exactly."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from relay.amplitude.cohort_list import Cohort
from relay.errors import StoreError
from relay.segments.cohorts import AppRules
from relay.segments.store import DATABASE_NAME
from relay.segments.views import read_views
from tests.support.segment_tables import APP, DAY_MS, NOW, SECOND, STRICT, SegmentTable, open_table

T1, T2, T3 = (NOW + step * 600 * SECOND for step in (1, 2, 3))

COLUMNS = {
    "segments": [
        "app",
        "cohort_id",
        "name",
        "state",
        "cohort_size",
        "matched_users",
        "subscribed_count",
        "revision",
        "computed_at",
        "applied_at",
    ],
    "segment_members": ["app", "cohort_id", "external_id", "entered_at"],
    "segment_changes": ["seq", "app", "cohort_id", "external_id", "change", "run_id", "at"],
    "cohort_runs": [
        "run_id",
        "app",
        "cohort_id",
        "source",
        "state",
        "started_at",
        "finished_at",
        "members",
        "empty_ids",
        "unknown_users",
        "added",
        "removed",
        "reason",
    ],
}

READER = """
import sqlite3, sys
raw = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(raw.execute("SELECT group_concat(external_id) FROM segment_members").fetchone()[0])
raw.close()
"""


def _seqs(table: SegmentTable) -> list[int]:
    return [seq for (seq,) in table.look("SELECT seq FROM segment_changes ORDER BY seq")]


@pytest.mark.parametrize("view", list(COLUMNS))
async def test_a_view_has_exactly_its_columns_in_order(tmp_path: Path, view: str) -> None:
    """Programs rely on column names, and some on positions."""
    async with open_table(tmp_path):
        path = tmp_path / DATABASE_NAME
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
            cursor = raw.execute(f"SELECT * FROM {view}")
            assert [column[0] for column in cursor.description] == COLUMNS[view]


async def test_a_segment_s_row_says_what_was_applied(tmp_path: Path) -> None:
    """Users are counted in one column and subscriptions in another."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True, True, False], "b": [False], "c": []})
        ids = ["a", "b", "c", "d", "NA"]
        await table.poll(ids, empty_ids=2, at=T1, now=T2)
        assert table.segment() == {
            "app": APP,
            "cohort_id": "c1",
            "name": "Cohort c1",
            "state": "active",
            "cohort_size": 7,
            "matched_users": 3,
            "subscribed_count": 2,
            "revision": 1,
            "computed_at": T1,
            "applied_at": T2,
        }
        assert table.runs() == [
            {
                "run_id": 1,
                "app": APP,
                "cohort_id": "c1",
                "source": "poll",
                "state": "applied",
                "started_at": T2,
                "finished_at": T2,
                "members": 5,
                "empty_ids": 2,
                "unknown_users": 1,
                "added": 3,
                "removed": 0,
                "reason": None,
            }
        ]
        assert table.look("SELECT * FROM segment_members ORDER BY external_id") == [
            (APP, "c1", user, T2) for user in "abc"
        ]
        assert sorted(table.look("SELECT * FROM segment_changes")) == [
            (seq, APP, "c1", user, "entered", 1, T2) for seq, user in enumerate("abc", start=1)
        ]


async def _list(table: SegmentTable, *cohorts: Cohort) -> None:
    await table.store.cohorts.set_listing(table.store.cohorts.number(APP), cohorts, T3)


async def test_a_segment_s_state_follows_the_list_and_the_guard(tmp_path: Path) -> None:
    """Whatever the state, the members are kept; back in the list it needs no download."""
    cohort = Cohort("c1", "Cohort c1", 1, NOW, NOW, False)  # noqa: FBT003
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a"])
        states = []
        for listed in (
            [],
            [cohort],
            [cohort._replace(is_archived=True)],
            [],
            [cohort._replace(name="Renamed")],
        ):
            await _list(table, *listed)
            states.append(table.segment()["state"])
            assert table.members() == ["a"]
        assert states == ["stale", "active", "archived", "stale", "active"]
        assert table.segment()["name"] == "Renamed"
        await table.poll([], at=T1, guard=STRICT)
        assert table.segment()["state"] == "held"
        assert [run["state"] for run in table.runs()] == ["applied", "held"]


async def test_a_run_s_states_have_the_contract_s_names(tmp_path: Path) -> None:
    """Each of the six appears, and an unfinished run has no end."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.poll(["a"])
        await table.poll(["a"], at=T1)
        await table.poll([], at=T2, guard=STRICT)
        await table.store.review.reject(3, T2)
        await table.poll(["b"], at=T3, guard=STRICT)
        downloads = table.store.downloads
        number = await table.cohort_no()
        for _ in range(2):
            await table.begin_run(at=T3)
        await downloads.fail(5, "no file", T3)
        await table.store.review.roll_back(number, None, T3)
        found = table.runs()
        assert [run["state"] for run in found] == [
            *("applied", "unchanged", "rejected", "held", "failed", "running", "applied")
        ]
        assert {run["source"] for run in found} == {"poll", "rollback"}
        assert [run["finished_at"] is None for run in found].count(True) == 1
        assert found[4]["reason"] == "no file"


async def test_members_have_the_instant_of_their_entry(tmp_path: Path) -> None:
    """Of being listed or becoming known, whichever came later; staying changes nothing."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True], "w": [True]})
        await table.poll(["a", "late"], at=NOW, now=T1)
        await table.know({"late": [True]}, T2)
        assert table.entered() == {"a": T1, "late": T2}
        await table.send("m1", "w", computed_at=T1, at=T2 + SECOND)
        await table.poll(["a", "b", "late", "w"], at=T2, now=T3)
        assert table.entered() == {"a": T1, "late": T2, "w": T2 + SECOND, "b": T3}
        await table.know({"a": [False, True]}, T3 + SECOND)
        await table.poll(["b", "late", "w"], at=T3, now=T3 + 2 * SECOND)
        await table.poll(["a", "b"], at=T3 + SECOND, now=T3 + 3 * SECOND)
        assert table.entered() == {"a": T3 + 3 * SECOND, "b": T3}


async def test_a_user_known_again_enters_again(tmp_path: Path) -> None:
    """In between the user was no member."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.poll(["a", "b"])
        await table.apply_export({"b": {"b/0": True}}, asked_at=T1, drops_users=True)
        await table.know({"a": [True]}, T2)
        assert table.entered() == {"a": T2, "b": NOW}


async def test_every_member_s_last_change_is_the_instant_of_entry(tmp_path: Path) -> None:
    """Changes and members agree, also for restricted ids."""
    async with open_table(tmp_path) as table:
        await table.poll(["a", "b", "NA"])
        for user, at in (("a", T1), ("NA", T2)):
            await table.know({user: [True]}, at)
        await table.send("m1", "b", is_entering=False, computed_at=T2, at=T2)
        await table.know({"b": [True]}, T2)
        await table.send("m2", "b", computed_at=T3, at=T3)
        logged = table.look("SELECT external_id, max(at) FROM segment_changes GROUP BY external_id")
        assert dict(logged) == table.entered() == {"a": T1, "b": T3, "NA": T2}


async def test_seq_only_grows(tmp_path: Path) -> None:
    """A follower that stores its position never meets a number twice."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.poll(["a", "b"])
        await table.poll(["a"], at=T1)
        highest = max(_seqs(table))
        await table.tidy(T1 + 200 * DAY_MS)
        assert _seqs(table) == []
    async with open_table(tmp_path) as table:
        await table.poll(["b"], at=T2)
        assert min(_seqs(table)) > highest
        highest = max(_seqs(table))
        await table.forget("b", T3)
        await table.tidy(T3 + 8 * DAY_MS)
    async with open_table(tmp_path) as table:
        await table.poll(["a"], at=T3)
        assert max(_seqs(table)) > highest + 1


async def test_run_ids_only_grow(tmp_path: Path) -> None:
    """A noted run id never means another run."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a"])
        for step in range(1, 4):
            await table.poll(["a"], at=NOW + step * SECOND)
        highest = table.runs()[-1]["run_id"]
        await table.tidy(NOW + 200 * DAY_MS)
        await table.poll(["a"], at=T3)
        assert table.runs()[-1]["run_id"] == highest + 1


async def test_another_process_reads_the_last_revision_during_a_write(
    tmp_path: Path,
) -> None:
    """Readers neither wait for the writer nor see unfinished changes."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a"])
        is_over, has_written = threading.Event(), threading.Event()

        def empty_slowly(raw: sqlite3.Connection) -> None:
            raw.execute("DELETE FROM listed")
            has_written.set()
            is_over.wait(20)
            raw.execute("INSERT INTO listed (list, external_id) SELECT list, 'a' FROM cohorts")

        async with anyio.create_task_group() as group:
            group.start_soon(table.store.database.write, empty_slowly)
            await anyio.to_thread.run_sync(has_written.wait, 10)
            command = [sys.executable, "-c", READER, str(tmp_path / DATABASE_NAME)]
            try:
                result: subprocess.CompletedProcess[bytes] = await anyio.run_process(command)
            finally:
                is_over.set()
        assert result.stdout.decode().strip() == "a"


async def test_a_read_transaction_sees_one_revision_to_its_end(tmp_path: Path) -> None:
    """Members and figures read together are consistent, however long that takes."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True], "c": [True]})
        await table.poll(["a", "b"])
        path = tmp_path / DATABASE_NAME

        def figures(raw: sqlite3.Connection) -> tuple[Any, ...]:
            counted: tuple[Any, ...] = raw.execute(
                "SELECT s.revision, s.matched_users, (SELECT count(*) FROM segment_members)"
                " FROM segments AS s"
            ).fetchone()
            return counted

        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
            raw.isolation_level = None
            raw.execute("BEGIN")
            assert figures(raw) == (1, 2, 2)
            await table.poll(["c"], at=T1)
            await table.tidy()
            assert figures(raw) == (1, 2, 2)
            raw.execute("COMMIT")
            assert figures(raw) == (2, 1, 1)


async def test_members_by_changed_settings_have_that_instant(tmp_path: Path) -> None:
    """Reading members since an instant finds the same users as following the changes."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]}, NOW - DAY_MS)
        await table.poll(["a", "b"], at=NOW - DAY_MS)
    async with open_table(tmp_path, AppRules(takes_all=True, segment_limit=None)) as table:
        assert table.entered() == {"a": NOW - DAY_MS, "b": NOW}
        await table.send("m1", "NA", computed_at=T1, at=T1)
        await table.know({"NA": [True]}, T2)
        assert table.entered()["NA"] == T2


async def test_a_reading_holds_only_the_changes_after_the_known_one(tmp_path: Path) -> None:
    """A follower reads each change once, and all members at every reading."""
    async with open_table(tmp_path) as table:
        await table.know({name: [True] for name in "ab"})
        await table.poll(["a", "b"])
        whole = read_views(tmp_path / DATABASE_NAME, APP)
        rest = read_views(tmp_path / DATABASE_NAME, APP, after=whole.changes[0].seq)
    assert rest.changes == whole.changes[1:]
    assert rest.members == whole.members == {"c1": frozenset("ab")}


def test_a_reading_creates_no_file(tmp_path: Path) -> None:
    """A wrong path is an error, not a new empty database."""
    with pytest.raises(StoreError, match="unable to open"):
        read_views(tmp_path / DATABASE_NAME, APP)
    assert list(tmp_path.iterdir()) == []
