"""What the segment table forgets in time, and what it never does."""

from pathlib import Path
from typing import Any

from relay.cohorts.guard import GuardPolicy
from relay.cohorts.staleness import Watermark
from relay.segments.decisions import UNDOABLE_RUNS
from relay.segments.polls import Polls
from relay.segments.retention import (
    CHANGES_MS,
    CHUNK_ROWS,
    DEPARTURES_MS,
    MESSAGES_MS,
    RUNS_MS,
    SIGHTINGS_MS,
)
from relay.segments.runs import Export
from relay.segments.segments import Segments
from tests.support.segment_tables import (
    APP,
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
    tidy,
)

STRICT = GuardPolicy(0.0, 0)
YEARS_MS = 3_000 * 86_400 * SECOND


def _number(folder: Path, table: str) -> int:
    return int(look(folder, f"SELECT count(*) FROM {table}")[0][0])


async def _steps(segments: Segments, at: int) -> int:
    """Tidy up; return how many transactions that took."""
    number = 0
    while await segments.retention.step(at):
        number += 1
    return number


async def test_lists_out_of_force_vanish_piece_by_piece(tmp_path: Path) -> None:
    """A replaced list is of no use; a large one goes in short transactions."""
    everybody = [f"u{number:06}" for number in range(CHUNK_ROWS + 1)]
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await segments.database.write(
            lambda raw: (
                raw.executemany(
                    "INSERT INTO listed (list, external_id) VALUES (77, ?)",
                    ((user,) for user in everybody),
                ).rowcount
            )
        )
        await segments.database.execute("INSERT INTO discarded_lists (list) VALUES (77)", {})
        await poll(segments, tmp_path, ["a", "b"])
        await poll(segments, tmp_path, ["a", "c"], at=NOW + SECOND)
        assert _number(tmp_path, "listed") == CHUNK_ROWS + 5
        assert await _steps(segments, NOW) == 3
        assert look(tmp_path, "SELECT external_id FROM listed ORDER BY 1") == [("a",), ("c",)]
        assert _number(tmp_path, "discarded_lists") == 0
        counted(tmp_path)


async def test_lists_of_failed_and_rejected_runs_vanish(tmp_path: Path) -> None:
    """Nobody can bring them into force any more."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True], "b": [True]})
        await poll(segments, tmp_path, ["a", "b"])
        await poll(segments, tmp_path, [], at=NOW + SECOND, guard=STRICT)
        await segments.decisions.reject(runs(tmp_path)[-1]["run_id"], NOW)
        polls = Polls(segments.database)
        number = await cohort_no(segments)
        run = await polls.begin(number, Watermark(NOW, NOW, 1), Export(), NOW)
        await segments.database.execute(
            "INSERT INTO listed (list, external_id) VALUES (:run, 'x')", {"run": run}
        )
        await polls.fail(run, "broken", NOW)
        await tidy(segments)
        assert look(tmp_path, "SELECT external_id FROM listed ORDER BY 1") == [("a",), ("b",)]
        assert {run for (run,) in look(tmp_path, "SELECT run FROM run_changes")} == {1}


async def test_the_history_of_a_cohort_s_last_runs_stays(tmp_path: Path) -> None:
    """Just as much as can be undone, for each cohort by itself."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True], "b": [True]})
        for step in range(6):
            await poll(segments, tmp_path, ["a" if step % 2 else "b"], at=NOW + step * SECOND)
        await poll(segments, tmp_path, ["a"], cohort_id="c2", at=NOW + 9 * SECOND)
        await tidy(segments)
        kept = look(tmp_path, "SELECT DISTINCT run FROM run_changes ORDER BY run")
        applied = [run["run_id"] for run in runs(tmp_path)]
        assert [run for (run,) in kept] == [*applied[-UNDOABLE_RUNS:], applied[-1] + 1]


async def test_what_is_past_its_days_goes_and_nothing_before(tmp_path: Path) -> None:
    """Changes, runs, messages and sightings each have their days."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await poll(segments, tmp_path, ["a"])
        await poll(segments, tmp_path, ["a"])
        await send(segments, "m1", "stranger", cohort_id="c2")
        limits = {"messages": MESSAGES_MS, "sightings": SIGHTINGS_MS, "changes": CHANGES_MS}
        for days_ms in sorted(set(limits.values())):
            for at in (NOW + days_ms, NOW + days_ms + 1):
                await tidy(segments, at)
                left = {table: _number(tmp_path, table) for table in limits}
                assert left == {table: int(at <= NOW + limits[table]) for table in limits}
                states = [run["state"] for run in runs(tmp_path)]
                assert states == ["applied", "unchanged"][: 2 if at <= NOW + RUNS_MS else 1]


async def test_a_repeated_message_is_known_for_its_days(tmp_path: Path) -> None:
    """Amplitude repeats within hours; a month is plenty."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True]})
        await send(segments, "m1", "a")
        await tidy(segments, NOW + MESSAGES_MS)
        assert (await send(segments, "m1", "a")).is_duplicate


async def test_the_departure_of_a_forgotten_user_can_be_read_for_a_week(tmp_path: Path) -> None:
    """Followers need time to hear of it; then nothing of the user is left."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True], "b": [True]})
        await poll(segments, tmp_path, ["a", "b"])
        await forget(segments, "a")
        await tidy(segments, NOW + DEPARTURES_MS)
        assert changes(tmp_path) == [("b", "entered"), ("a", "left")]
        await tidy(segments, NOW + DEPARTURES_MS + 1)
        assert changes(tmp_path) == [("b", "entered")]
        assert _number(tmp_path, "departures") == 0


def _in_force(folder: Path) -> list[Any]:
    rows: list[Any] = [segment(folder, name) for name in ("c1", "c2", "c3")]
    rows += [members(folder, name) for name in ("c1", "c2", "c3")]
    for table in ("users", "subscriptions", "marks", "cohorts", "apps"):
        rows += look(folder, f"SELECT * FROM {table}")
    return rows


async def test_nothing_that_is_in_force_is_ever_touched(tmp_path: Path) -> None:
    """Years later the segments are the same, a held run can be approved, an open one goes on."""
    async with open_table(tmp_path) as segments:
        await know(segments, {"a": [True], "b": [True], "c": []})
        await poll(segments, tmp_path, ["a", "b", "x"])
        await poll(segments, tmp_path, ["c"], at=NOW + SECOND, guard=STRICT)
        await send(segments, "m1", "a", "y", cohort_id="c2")
        await poll(segments, tmp_path, ["b"], cohort_id="c3")
        await segments.decisions.roll_back(await cohort_no(segments, "c3"), None, NOW)
        await poll(segments, tmp_path, ["a", "b"], cohort_id="c3", at=NOW + SECOND)
        number = await cohort_no(segments, "c3")
        listing = Watermark(NOW + 2 * SECOND, NOW, 2)
        running = await Polls(segments.database).begin(number, listing, Export("export-1"), NOW)
        await segments.database.execute(
            "INSERT INTO listed (list, external_id) VALUES (:run, 'z')", {"run": running}
        )
        before = _in_force(tmp_path)
        await tidy(segments, NOW + YEARS_MS)
        assert _in_force(tmp_path) == before
    async with open_table(tmp_path) as segments:
        assert _in_force(tmp_path) == before
        opened = await Polls(segments.database).open_runs(segments.catalog.number(APP))
        assert [(run.run_id, run.request_id) for run in opened] == [(running, "export-1")]
        assert look(tmp_path, "SELECT external_id FROM listed WHERE list = ?", running) == [("z",)]
        held = next(run["run_id"] for run in runs(tmp_path) if run["state"] == "held")
        await segments.decisions.approve(held, NOW + YEARS_MS)
        assert members(tmp_path) == ["c"]
        counted(tmp_path)


async def test_the_month_s_downloads_are_still_counted(tmp_path: Path) -> None:
    """Runs are kept longer than any month."""
    async with open_table(tmp_path) as segments:
        for step in range(3):
            await poll(segments, tmp_path, ["a"], at=NOW + step * SECOND)
        await tidy(segments, NOW + 31 * 86_400 * SECOND)
        polls = Polls(segments.database)
        number = segments.catalog.number(APP)
        assert len(await polls.requests_since(number, NOW)) == 3
