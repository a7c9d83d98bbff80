"""Damage to the segment table: whole segments or none, and no erased user comes back.

`DAMAGE_SEEDS` sets how many cases to try, `DAMAGE_SEED` the first seed.
"""

import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import anyio
import pytest

from relay.database.recovery.archive import find_archived
from relay.errors import SchemaTooNew
from relay.segments.store import DATABASE_NAME
from tests.crash.damage import DAMAGES, Damage, copy_database, flip_head, flip_schema
from tests.support.options import option
from tests.support.segment_tables import APP, NOW, SegmentTable, open_table

pytestmark = pytest.mark.slow

SEEDS = 26
USERS = 400
COHORTS = 4
FORGOTTEN = ("user-7", "user-77")


@dataclass(frozen=True)
class Stock:
    """A segment table on disk with known content.

    Attributes:
        folder: Where it is.
        revisions: List sizes of each cohort, one per revision.
        last_change: Number of the last change.
    """

    folder: Path
    revisions: dict[str, set[int]]
    last_change: int


@dataclass(frozen=True)
class Seen:
    """The visible content of a table.

    Attributes:
        lists: List size of each segment's cohort.
        members: Members of all segments.
        last_change: Number of the last change.
    """

    lists: dict[str, int]
    members: set[str]
    last_change: int


def _copy(folder: Path, target: Path) -> Path:
    return copy_database(folder / DATABASE_NAME, target)


async def _live(table: SegmentTable, stock: Stock, at: int) -> Stock:
    """Make some revisions of some cohorts."""
    for number in range(COHORTS):
        ids = [f"user-{n}" for n in range(number, USERS, number + 1)]
        ids = table.store.forgotten.without(table.store.cohorts.number(APP), ids)
        ids += [f"stranger-{n}" for n in range(100)]
        for place, list_ in enumerate((ids, [*ids[3:], "NA"])):
            await table.poll(list_, cohort_id=f"c{number}", at=at + place)
            stock = _note(stock)
    await table.poll(["user-1"], cohort_id="c0", at=at + 2)  # held
    await table.send(f"m{at}", "user-3", "user-4", cohort_id="c9", computed_at=at)
    return _note(stock)


def _read(folder: Path) -> Seen:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as raw:
        lists = raw.execute(
            "SELECT cohort_id, (SELECT count(*) FROM listed AS l WHERE l.list = c.list)"
            " FROM cohorts AS c WHERE is_segment"
        ).fetchall()
        members = raw.execute("SELECT DISTINCT external_id FROM segment_members").fetchall()
        (last,) = raw.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return Seen(dict(lists), {user for (user,) in members}, last)


def _note(stock: Stock) -> Stock:
    """Record the visible content of a table."""
    seen = _read(stock.folder)
    for cohort_id, ids in seen.lists.items():
        stock.revisions.setdefault(cohort_id, set()).add(ids)
    return replace(stock, last_change=seen.last_change)


async def _closed(folder: Path) -> Stock:
    """Make a table that was closed in order."""
    async with open_table(folder) as table:
        await table.know({f"user-{n}": [n % 3 > 0] for n in range(USERS)})
        stock = await _live(table, Stock(folder, {}, 0), NOW)
        for user in FORGOTTEN:
            await table.forget(user)
            stock = _note(stock)
    return stock


async def _crashed(folder: Path) -> Stock:
    """Make a table whose process was killed, with much of it in the log."""
    (folder / "open").mkdir()
    stock = await _closed(folder / "open")
    async with open_table(folder / "open") as table:
        stock = await _live(table, stock, NOW + 10)
        copy = _copy(folder / "open", folder / "killed").parent
    return replace(stock, folder=copy)


async def _look(stock: Stock, folder: Path) -> None:
    """Open a damaged table as the daemon does, and compare it with its former content."""
    async with open_table(folder) as table:
        number = table.store.cohorts.number(APP)
        assert all((number, user) in table.store.forgotten for user in FORGOTTEN)
        after = _read(folder)
    assert after.last_change >= stock.last_change
    for cohort_id, ids in after.lists.items():
        assert ids in stock.revisions[cohort_id]
    assert not after.members & set(FORGOTTEN)
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []


async def _try(stock: Stock, damage: Damage, rng: Random, target: Path) -> None:
    database = _copy(stock.folder, target)
    damage(database, rng)
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    try:
        await _look(stock, target)
    except SchemaTooNew:
        assert damage in {flip_head, flip_schema}
        assert {file.name: file.read_bytes() for file in target.iterdir()} == before
        return
    rescues = list(find_archived(database))
    await _look(stock, target)
    assert list(find_archived(database)) == rescues


@pytest.mark.parametrize("ending", [_closed, _crashed])
async def test_segments_are_whole_or_gone(
    ending: Callable[[Path], Awaitable[Stock]], tmp_path: Path
) -> None:
    """Whatever happened to the files, no reader sees half a segment or an erased user."""
    (tmp_path / "stock").mkdir()
    stock = await ending(tmp_path / "stock")
    first = option("DAMAGE_SEED", 0)
    for seed in range(first, first + option("DAMAGE_SEEDS", SEEDS)):
        damage = DAMAGES[seed % len(DAMAGES)]
        target = tmp_path / str(seed)
        try:
            await _try(stock, damage, Random(seed), target)
        except Exception as error:
            error.add_note(f"seed {seed}: {damage.__name__}")
            raise
        await anyio.to_thread.run_sync(shutil.rmtree, target)
