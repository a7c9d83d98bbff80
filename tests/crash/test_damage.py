"""Damage to the outbox: every acknowledged event is recovered or counted as lost.

`DAMAGE_SEEDS` sets how many cases to try, `DAMAGE_SEED` the first seed.
"""

import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import anyio
import pytest

from relay.database.counters_sidecar import sidecar_path
from relay.database.recovery import check
from relay.database.recovery.archive import find_archived
from relay.errors import SchemaTooNew, StoreDamaged
from relay.events.batch import IngestBatch, QuarantinedBody
from relay.outbox.claims import DeadLettered, Settlement
from relay.outbox.counters import Counts
from relay.outbox.selection import Selection
from relay.outbox.spans import decode_spans
from relay.outbox.store import DATABASE_NAME, Outbox
from tests.crash.damage import (
    DAMAGES,
    Damage,
    copy_database,
    flip_head,
    flip_schema,
    remove_log,
)
from tests.support.clocks import START_MS
from tests.support.options import option
from tests.support.outboxes import APP, append, counts, mapped, running_outbox, waiting

pytestmark = pytest.mark.slow

EVENTS = 700
GROUP_EVENTS = 35
LATER_EVENTS = 90
SEEDS = 52
LONG_ID = 6_000


@dataclass(frozen=True)
class Keys:
    """Keys of pending events and of dead letters."""

    pending: list[bytes]
    dead: list[bytes]


@dataclass(frozen=True)
class Stock:
    """An outbox on disk with known content.

    Attributes:
        folder: Where it is.
        pending: Keys of pending events.
        dead: Keys of dead letters.
        counts: The counts.
    """

    folder: Path
    pending: Collection[bytes]
    dead: Collection[bytes]
    counts: Counts


def copy_outbox(folder: Path, target: Path) -> Path:
    """Copy an outbox's files as they are on disk; return the database."""
    return copy_database(folder / DATABASE_NAME, target)


async def _live(outbox: Outbox, first: int, events: int) -> None:
    """Append events; deliver, dead-letter, claim and retry some."""
    number = outbox.counters.number(APP)
    for start in range(first, first + events, GROUP_EVENTS):
        group = [
            mapped(
                f"event-{n}",
                device_id=f"device-{n % 97}" + "x" * (LONG_ID if n % 50 == 0 else 0),
            )
            for n in range(start, min(start + GROUP_EVENTS, first + events))
        ]
        body = QuarantinedBody("events", "not_json", "it is not JSON", b"{" * 300)
        message = (f"message-{start}", b'{"Message Name":"offer"}')
        await outbox.writer.append(
            IngestBatch(number, START_MS, group, quarantined=[body], messages=[message], filtered=2)
        )
    in_line = [event for event in await waiting(outbox) if event.seq > first]
    for place in range(0, len(in_line) - 20, 60):
        claim = await outbox.claims.open(number, in_line[place : place + 20], START_MS)
        if place % 120:
            settlement = Settlement(
                delivered=claim.events[:15],
                dead=[DeadLettered(claim.events[15], "invalid_field", "time is wrong")],
                released=[
                    event._replace(first_tried_at=START_MS, attempts=1)
                    for event in claim.events[16:]
                ],
            )
            await outbox.claims.settle(claim, settlement, START_MS)


def _keys(folder: Path) -> Keys:
    """Return the keys of the events in the tables.

    A dead letter with another letter in its text keeps its key, so this cannot find it.
    """
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as raw:
        (app,) = raw.execute("SELECT no FROM apps WHERE app = ?", (APP,)).fetchone()
        spans = raw.execute("SELECT spans FROM receipts").fetchall()
        covered = {seq for (text,) in spans for seq in decode_spans(text)}
        rows = raw.execute("SELECT seq, key FROM events WHERE app = ?", (app,)).fetchall()
        dead = raw.execute("SELECT key FROM dead_letters WHERE app = ?", (app,)).fetchall()
    return Keys([key for seq, key in rows if seq not in covered], [key for (key,) in dead])


async def _take_stock(outbox: Outbox, folder: Path) -> Stock:
    found = _keys(folder)
    return Stock(folder, found.pending, found.dead, await counts(outbox))


async def _closed(folder: Path) -> Stock:
    """Make an outbox that was closed in order."""
    async with running_outbox(folder) as outbox:
        await _live(outbox, 0, EVENTS)
        await outbox.retention.flush()
        while await outbox.retention.prune():
            pass
        await _live(outbox, EVENTS, LATER_EVENTS)
        return await _take_stock(outbox, folder)


async def _crashed(folder: Path) -> Stock:
    """Make an outbox whose process was killed, with much of it in the log."""
    await _closed(folder / "before")
    database = copy_outbox(folder / "before", folder / "open")
    async with running_outbox(database.parent) as outbox:
        await _live(outbox, EVENTS + LATER_EVENTS, EVENTS)
        stock = await _take_stock(outbox, database.parent)
        copy = copy_outbox(database.parent, folder / "killed")
        return Stock(copy.parent, stock.pending, stock.dead, stock.counts)


async def _look(stock: Stock, folder: Path) -> int:
    """Open a damaged outbox as the daemon does, and compare it with its former content.

    Returns:
        How many events are counted as lost.
    """
    async with running_outbox(folder) as outbox:
        after = await counts(outbox)
        found = _keys(folder)
        await append(outbox, "one more")
    there = {*found.pending, *found.dead}
    missing = {*stock.pending, *stock.dead} - there
    lost = after.discarded - stock.counts.discarded
    assert after.accepted >= stock.counts.accepted
    assert after.pending == len(found.pending)
    assert after.dead == len(found.dead)
    assert len(there) == len(found.pending) + len(found.dead)
    assert lost >= len(missing)
    _is_whole(folder / DATABASE_NAME)
    return lost


def _is_whole(database: Path) -> None:
    with closing(sqlite3.connect(database)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def _try(stock: Stock, damage: Damage, rng: Random, target: Path) -> int:
    """Damage a copy and open it twice; return how many events are counted as lost."""
    database = copy_outbox(stock.folder, target)
    damage(database, rng)
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    try:
        lost = await _look(stock, target)
    except SchemaTooNew:
        assert damage in {flip_head, flip_schema}
        assert {file.name: file.read_bytes() for file in target.iterdir()} == before
        return 0
    rescues = list(find_archived(database))
    async with running_outbox(target) as outbox:
        assert (await counts(outbox)).accepted > stock.counts.accepted
    assert list(find_archived(database)) == rescues
    return lost


@pytest.mark.parametrize("ending", [_closed, _crashed])
async def test_damaged_events_are_recovered_or_counted(
    ending: Callable[[Path], Awaitable[Stock]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever happened to the files, relay starts, and hides no loss."""
    (tmp_path / "stock").mkdir()
    stock = await ending(tmp_path / "stock")
    first, seeds = option("DAMAGE_SEED", 0), option("DAMAGE_SEEDS", SEEDS)
    lost: Counter[str] = Counter()
    for seed in range(first, first + seeds):
        damage = DAMAGES[seed % len(DAMAGES)]
        target = tmp_path / str(seed)
        try:
            lost[damage.__name__] += await _try(stock, damage, Random(seed), target)
        except Exception as error:
            error.add_note(f"seed {seed}: {damage.__name__}")
            raise
        await anyio.to_thread.run_sync(shutil.rmtree, target)
    with capsys.disabled():
        there = (len(stock.pending) + len(stock.dead)) * seeds // len(DAMAGES)
        sys.stdout.write(f"\n{seeds} damages; of {there} events each took: {dict(lost)}\n")


async def _read_all(outbox: Outbox) -> None:
    """Read everything, as delivery, doors and maintenance would."""
    seqs = [event.seq for event in await waiting(outbox)]
    for start in range(0, len(seqs), GROUP_EVENTS):
        await outbox.claims.read_bodies(seqs[start : start + GROUP_EVENTS])
    await outbox.dead_letters.page(Selection(), after=0, limit=1000)
    await outbox.quarantine.page(Selection(), after=0, limit=1000)
    await append(outbox, "one more")
    await outbox.retention.flush()
    while await outbox.retention.prune():
        pass


async def test_damage_that_is_met_later_costs_one_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large outbox is read whole only at the start after an end with damage."""
    monkeypatch.setattr(check, "SMALL_BYTES", 0)
    (tmp_path / "stock").mkdir()
    stock = await _crashed(tmp_path / "stock")
    first = option("DAMAGE_SEED", 0)
    for seed in range(first, first + option("DAMAGE_SEEDS", SEEDS)):
        folder = tmp_path / str(seed)
        damage = DAMAGES[seed % len(DAMAGES)]
        damage(copy_outbox(stock.folder, folder), Random(seed))
        with suppress(SchemaTooNew):
            try:
                async with running_outbox(folder) as outbox:
                    await _read_all(outbox)
            except* StoreDamaged:
                async with running_outbox(folder) as outbox:
                    await _read_all(outbox)
        await anyio.to_thread.run_sync(shutil.rmtree, folder)


async def test_without_the_sidecar_a_lost_log_would_be_hidden(tmp_path: Path) -> None:
    """The control: the counts alone add up whatever rows are missing."""
    (tmp_path / "stock").mkdir()
    stock = await _crashed(tmp_path / "stock")
    database = copy_outbox(stock.folder, tmp_path / "damaged")
    remove_log(database, Random(0))
    sidecar_path(database).unlink()
    with pytest.raises(AssertionError):
        await _look(stock, database.parent)
