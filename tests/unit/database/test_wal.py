"""The write-ahead log: the effects of a power cut are no damage, others are."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.database.recovery.format import PAGE_BYTES
from relay.database.recovery.page_reader import open_page_reader
from relay.database.recovery.pages import open_pages
from relay.database.recovery.salvage import Salvage, read_rows, read_tables
from relay.database.recovery.wal import read_wal

HEADER_BYTES = 32
FRAME_BYTES = 24 + PAGE_BYTES
COMMITS = 6


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """Yield a database in use whose newest rows are only in its log, one commit per row."""
    path, copy = tmp_path / "open.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("CREATE TABLE things (name TEXT) STRICT")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(COMMITS):
            raw.execute("INSERT INTO things VALUES (?)", [f"{number}" * 3_000])
        for tail in ("", "-wal"):
            shutil.copy(f"{path}{tail}", f"{copy}{tail}")
        yield copy


def _log(database: Path) -> Path:
    return database.with_name("copy.db-wal")


def _names(database: Path, *, past_damage: bool = False) -> set[str]:
    """Return the first letter of every row that can be read."""
    with (
        closing(sqlite3.connect(":memory:")) as raw,
        open_pages(database, past_damage=past_damage) as pages,
        open_page_reader(pages, database.with_name("pages")) as reader,
    ):
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        raw.execute("CREATE TABLE things (name TEXT) STRICT")
        rows = read_rows(pages, reader, read_tables(raw), Salvage())
        return {str(values[0])[0] for _, values in rows}


def _flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 0xFF
    file.write_bytes(data)


def test_a_whole_log_is_read_like_sqlite_does(database: Path) -> None:
    """Every commit is read, and nothing is damaged."""
    assert not read_wal(_log(database)).is_damaged
    assert _names(database) == set("012345")


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    """As after an orderly stop."""
    assert not read_wal(tmp_path / "none").places


def test_a_damaged_last_commit_is_the_effect_of_a_power_cut(database: Path) -> None:
    """It was never acknowledged, as its sync did not end."""
    _flip(_log(database), _log(database).stat().st_size - 1)
    assert not read_wal(_log(database)).is_damaged
    assert _names(database) == set("01234")


def test_commits_after_a_damaged_frame_are_read(database: Path) -> None:
    """SQLite silently stops there; here everything but the damaged frame is read."""
    _flip(_log(database), HEADER_BYTES + 24 + 100)
    assert read_wal(_log(database)).is_damaged
    assert _names(database) == set()
    assert _names(database, past_damage=True) >= set("12345")


def test_a_damaged_header_costs_nothing(database: Path) -> None:
    """Every frame is checked against the one before it."""
    _flip(_log(database), 17)
    assert read_wal(_log(database)).is_damaged
    assert _names(database, past_damage=True) == set("012345")


def test_a_cut_log_ends_with_its_last_whole_frame(database: Path) -> None:
    """Only the sidecar knows that there was more."""
    with _log(database).open("r+b") as file:
        file.truncate(HEADER_BYTES + 3 * FRAME_BYTES + 100)
    assert not read_wal(_log(database)).is_damaged
    assert len(_names(database)) < COMMITS
