"""A power cut at any moment of a reconcile leaves one whole revision, and the run can continue."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from relay.amplitude.cohort_list import Cohort
from relay.segments.sorting import SortedIds, open_sorting
from relay.segments.staging import StagedList
from relay.segments.store import DATABASE_NAME
from tests.support.disks import crash_copy
from tests.support.segment_tables import (
    APP,
    GUARD,
    NOW,
    RANGE_IDS,
    SECOND,
    STRICT,
    SegmentFile,
    SegmentTable,
    open_table,
)

OLD = [f"u{number:02}" for number in range(12)]
NEW = [f"u{number:02}" for number in range(4, 16)]
EVERYBODY = sorted({*OLD, *NEW})
T1, T2 = NOW + 600 * SECOND, NOW + 1_200 * SECOND
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24

Copy = Callable[[str], None]


async def _begin(table: SegmentTable) -> int:
    number = table.store.cohorts.number(APP)
    listed = Cohort("c1", "Cohort c1", len(NEW), T1, T1, False)  # noqa: FBT003
    await table.store.cohorts.set_listing(number, [listed], T1)
    return await table.begin_run(size=len(NEW), at=T1)


async def _reconcile(table: SegmentTable, run: int, copy: Copy) -> None:
    """Stage and publish the new list, with a copy of the disk at every step."""
    staged = table.store.stage(await table.cohort_no(), run)
    await staged.begin()
    async with open_sorting(table.folder / "sorting.db") as scratch:
        await _stage(staged, SortedIds(scratch), copy)
    copy("staged")
    await staged.set_counts(len(NEW), 0)
    copy("counted")
    await staged.publish(GUARD, T1)
    copy("published")


async def _stage(staged: StagedList, ids: SortedIds, copy: Copy) -> None:
    await ids.add(NEW)
    await ids.sort()
    place = 0
    async for piece in ids.pieces(RANGE_IDS):
        await staged.add(piece)
        place += 1
        copy(f"piece-{place}")


def _is_sound(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as raw:
        found: list[tuple[str]] = raw.execute("PRAGMA integrity_check").fetchall()
        return found == [("ok",)]


def _is_whole(folder: Path) -> bool:
    """Assert that a copy has one whole revision; return whether it is the new one."""
    assert _is_sound(folder)
    file = SegmentFile(folder)
    found, row = file.members(), file.segment()
    is_new: bool = row["revision"] == 2
    assert found == (NEW if is_new else OLD)
    assert (row["matched_users"], row["subscribed_count"]) == (12, 12)
    assert row["computed_at"] == (T1 if is_new else NOW)
    followed: set[str] = set()
    for user, change in file.changes():
        (followed.add if change == "entered" else followed.discard)(user)
    assert sorted(followed) == found
    file.check_figures()
    return is_new


@asynccontextmanager
async def _prepared(folder: Path) -> AsyncIterator[SegmentTable]:
    folder.mkdir()
    async with open_table(folder) as table:
        await table.know({user: [True] for user in EVERYBODY})
        await table.poll(OLD)
        yield table


async def test_a_copy_of_any_moment_is_whole_and_its_run_ends_right(tmp_path: Path) -> None:
    """The old revision before the publication, the new one after it, never a mixture."""
    copies: dict[str, Path] = {}

    def copy(name: str) -> None:
        copies[name] = crash_copy(tmp_path / "table", tmp_path / name)

    async with _prepared(tmp_path / "table") as table:
        run = await _begin(table)
        copy("begun")
        await _reconcile(table, run, copy)
        await table.tidy()
        copy("tidied")
    new = {name: _is_whole(folder) for name, folder in copies.items()}
    assert len(new) == 10
    assert {name for name, is_new in new.items() if is_new} == {"published", "tidied"}
    for name, folder in copies.items():
        async with open_table(folder) as table:
            await _resume_runs(table, run, is_open=not new[name])
            assert _is_whole(folder)
            await table.tidy()
            left = table.look("SELECT DISTINCT list FROM listed")
            assert left == table.look("SELECT list FROM cohorts")


async def _resume_runs(table: SegmentTable, run: int, *, is_open: bool) -> None:
    """Do what a start does with open runs."""
    downloads = table.store.downloads
    opened = await downloads.open_runs(table.store.cohorts.number(APP))
    assert [(one.run_id, one.request_id) for one in opened] == [(run, "export-1")] * is_open
    for one in opened:
        await downloads.restart(one.run_id)
        await _reconcile(table, one.run_id, lambda _: None)


async def test_a_log_torn_anywhere_gives_one_whole_revision(tmp_path: Path) -> None:
    """A power cut keeps any prefix of the log; SQLite ends it at a commit."""
    async with _prepared(tmp_path / "table") as table:
        run = await _begin(table)
        await _reconcile(table, run, lambda _: None)
        whole = crash_copy(tmp_path / "table", tmp_path / "whole")
    wal = (whole / f"{DATABASE_NAME}-wal").read_bytes()
    page_bytes = int.from_bytes(wal[8:12], "big")
    frame_bytes = page_bytes + FRAME_HEADER_BYTES
    frames = (len(wal) - WAL_HEADER_BYTES) // frame_bytes
    seen = []
    for place in range(41):
        torn = tmp_path / f"torn-{place}"
        torn.mkdir()
        (torn / DATABASE_NAME).write_bytes((whole / DATABASE_NAME).read_bytes())
        cut = WAL_HEADER_BYTES + (frames - place) * frame_bytes + (place % 3) * 1_000
        (torn / f"{DATABASE_NAME}-wal").write_bytes(wal[: max(cut, 0)])
        with closing(sqlite3.connect(torn / DATABASE_NAME)) as raw:
            tables = raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == (0,) or not SegmentFile(torn).look("SELECT 1 FROM segments"):
            break
        seen.append(_is_whole(torn))
    assert set(seen) == {True, False}
    assert len(seen) > 10
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_review_is_atomic(tmp_path: Path, decision: str) -> None:
    """An answered decision stands; an unanswered one can be repeated."""
    async with _prepared(tmp_path / "table") as table:
        await table.poll(NEW, at=T1, guard=STRICT)
        (held,) = table.look("SELECT run_id FROM runs WHERE state = 'held'")[0]
        before = crash_copy(tmp_path / "table", tmp_path / "before")
        await getattr(table.store.review, decision)(held, T2)
        after = crash_copy(tmp_path / "table", tmp_path / "after")
    async with open_table(before) as table:
        assert table.members() == OLD
        await getattr(table.store.review, decision)(held, T2)
    for folder in (before, after):
        assert _is_sound(folder)
        file = SegmentFile(folder)
        assert file.members() == (NEW if decision == "approve" else OLD)
        assert file.segment()["state"] == "active"
        file.check_figures()
