"""What the segment table prunes in time, and what it never prunes."""

from pathlib import Path
from typing import Any

from relay.segments.retention import (
    CHANGES_MS,
    CHUNK_ROWS,
    DEPARTURES_MS,
    MESSAGES_MS,
    RUNS_MS,
    SIGHTINGS_MS,
)
from relay.segments.review import UNDOABLE_RUNS
from relay.segments.runs import Export
from relay.segments.watermark import Watermark
from tests.support.segment_tables import (
    APP,
    NOW,
    SECOND,
    STRICT,
    SegmentFile,
    SegmentTable,
    open_table,
)

YEARS_MS = 3_000 * 86_400 * SECOND


def _number(table: SegmentTable, name: str) -> int:
    return int(table.look(f"SELECT count(*) FROM {name}")[0][0])


async def _steps(table: SegmentTable, at: int) -> int:
    """Run the retention; return the number of transactions."""
    number = 0
    while await table.store.retention.step(at):
        number += 1
    return number


async def test_lists_out_of_force_vanish_piece_by_piece(tmp_path: Path) -> None:
    """A replaced list is useless; a large one is removed in short transactions."""
    everybody = [f"u{number:06}" for number in range(CHUNK_ROWS + 1)]
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.store.database.write(
            lambda raw: (
                raw.executemany(
                    "INSERT INTO listed (list, external_id) VALUES (77, ?)",
                    ((user,) for user in everybody),
                ).rowcount
            )
        )
        await table.store.database.execute("INSERT INTO discarded_lists (list) VALUES (77)", {})
        await table.poll(["a", "b"])
        await table.poll(["a", "c"], at=NOW + SECOND)
        assert _number(table, "listed") == CHUNK_ROWS + 5
        assert await _steps(table, NOW) == 3
        assert table.look("SELECT external_id FROM listed ORDER BY 1") == [("a",), ("c",)]
        assert _number(table, "discarded_lists") == 0
        table.check_figures()


async def test_lists_of_failed_and_rejected_runs_vanish(tmp_path: Path) -> None:
    """They can never come into force."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.poll(["a", "b"])
        await table.poll([], at=NOW + SECOND, guard=STRICT)
        await table.store.review.reject(table.runs()[-1]["run_id"], NOW)
        downloads = table.store.downloads
        run = await table.begin_run()
        await table.store.database.execute(
            "INSERT INTO listed (list, external_id) VALUES (:run, 'x')", {"run": run}
        )
        await downloads.fail(run, "broken", NOW)
        await table.tidy()
        assert table.look("SELECT external_id FROM listed ORDER BY 1") == [("a",), ("b",)]
        assert {run for (run,) in table.look("SELECT run FROM run_changes")} == {1}


async def test_the_history_of_a_cohort_s_last_runs_stays(tmp_path: Path) -> None:
    """Exactly as much as can be undone, for each cohort."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        for step in range(6):
            await table.poll(["a" if step % 2 else "b"], at=NOW + step * SECOND)
        await table.poll(["a"], cohort_id="c2", at=NOW + 9 * SECOND)
        await table.tidy()
        kept = table.look("SELECT DISTINCT run FROM run_changes ORDER BY run")
        applied = [run["run_id"] for run in table.runs()]
        assert [run for (run,) in kept] == [*applied[-UNDOABLE_RUNS:], applied[-1] + 1]


async def test_rows_past_their_retention_are_removed_and_no_others(tmp_path: Path) -> None:
    """Changes, runs, messages and sightings each have their retention."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.poll(["a"])
        await table.poll(["a"])
        await table.send("m1", "stranger", cohort_id="c2")
        limits = {"messages": MESSAGES_MS, "sightings": SIGHTINGS_MS, "changes": CHANGES_MS}
        for days_ms in sorted(set(limits.values())):
            for at in (NOW + days_ms, NOW + days_ms + 1):
                await table.tidy(at)
                left = {name: _number(table, name) for name in limits}
                assert left == {table: int(at <= NOW + limits[table]) for table in limits}
                states = [run["state"] for run in table.runs()]
                assert states == ["applied", "unchanged"][: 2 if at <= NOW + RUNS_MS else 1]


async def test_a_repeated_message_is_recognised_within_its_retention(tmp_path: Path) -> None:
    """Amplitude repeats within hours; a month is plenty."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True]})
        await table.send("m1", "a")
        await table.tidy(NOW + MESSAGES_MS)
        assert (await table.send("m1", "a")).is_duplicate


async def test_the_departure_of_an_erased_user_is_kept_for_a_week(tmp_path: Path) -> None:
    """Followers need time to read it; then nothing of the user is left."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True]})
        await table.poll(["a", "b"])
        await table.forget("a")
        await table.tidy(NOW + DEPARTURES_MS)
        assert table.changes() == [("b", "entered"), ("a", "left")]
        await table.tidy(NOW + DEPARTURES_MS + 1)
        assert table.changes() == [("b", "entered")]
        assert _number(table, "departures") == 0


def _in_force(folder: Path) -> list[Any]:
    rows: list[Any] = [SegmentFile(folder).segment(name) for name in ("c1", "c2", "c3")]
    rows += [SegmentFile(folder).members(name) for name in ("c1", "c2", "c3")]
    for table in ("users", "subscriptions", "marks", "cohorts", "apps"):
        rows += SegmentFile(folder).look(f"SELECT * FROM {table}")
    return rows


async def test_nothing_in_force_is_ever_removed(tmp_path: Path) -> None:
    """Years later segments are the same, a held run can be approved, an open one continues."""
    async with open_table(tmp_path) as table:
        await table.know({"a": [True], "b": [True], "c": []})
        await table.poll(["a", "b", "x"])
        await table.poll(["c"], at=NOW + SECOND, guard=STRICT)
        await table.send("m1", "a", "y", cohort_id="c2")
        await table.poll(["b"], cohort_id="c3")
        await table.store.review.roll_back(await table.cohort_no("c3"), None, NOW)
        await table.poll(["a", "b"], cohort_id="c3", at=NOW + SECOND)
        number = await table.cohort_no("c3")
        listing = Watermark(NOW + 2 * SECOND, NOW, 2)
        running = await table.store.downloads.begin(number, listing, Export("export-1"), NOW)
        await table.store.database.execute(
            "INSERT INTO listed (list, external_id) VALUES (:run, 'z')", {"run": running}
        )
        before = _in_force(tmp_path)
        await table.tidy(NOW + YEARS_MS)
        assert _in_force(tmp_path) == before
    async with open_table(tmp_path) as table:
        assert _in_force(tmp_path) == before
        opened = await table.store.downloads.open_runs(table.store.cohorts.number(APP))
        assert [(run.run_id, run.request_id) for run in opened] == [(running, "export-1")]
        assert table.look("SELECT external_id FROM listed WHERE list = ?", running) == [("z",)]
        held = next(run["run_id"] for run in table.runs() if run["state"] == "held")
        await table.store.review.approve(held, NOW + YEARS_MS)
        assert table.members() == ["c"]
        table.check_figures()


async def test_the_month_s_downloads_are_still_counted(tmp_path: Path) -> None:
    """Runs are kept longer than any month."""
    async with open_table(tmp_path) as table:
        for step in range(3):
            await table.poll(["a"], at=NOW + step * SECOND)
        await table.tidy(NOW + 31 * 86_400 * SECOND)
        downloads = table.store.downloads
        number = table.store.cohorts.number(APP)
        assert len(await downloads.requests_since(number, NOW)) == 3
