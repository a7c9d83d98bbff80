"""Copying a database while it is written to."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.database.disk import remove_database
from relay.database.snapshot import check_copy, open_snapshot, publish_copies
from relay.errors import StoreFailed

ROWS = 20_000
TEXT = "x" * 500


@contextmanager
def written(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield the writing connection of a 10 MB database with a log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT) STRICT")
        add(raw, ROWS)
        yield raw


def add(raw: sqlite3.Connection, rows: int) -> None:
    """Add rows in one transaction."""
    raw.execute("BEGIN")
    raw.executemany("INSERT INTO rows (text) VALUES (?)", ((TEXT,) for _ in range(rows)))
    raw.execute("COMMIT")


def count(path: Path) -> int:
    """Return the number of rows in a copy."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as raw:
        (number,) = raw.execute("SELECT count(*) FROM rows").fetchone()
        return int(number)


def test_a_writer_neither_changes_nor_restarts_a_copy(tmp_path: Path) -> None:
    """Each step sees the snapshot, whatever is committed and checkpointed meanwhile."""
    steps: list[int] = []
    with written(tmp_path / "a.db") as raw:

        def write(copied_bytes: int) -> None:
            steps.append(copied_bytes)
            assert len(steps) < 50, "it restarts again and again"
            add(raw, 1_000)
            raw.execute("UPDATE rows SET text = 'changed' WHERE number % 7 = 0")
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        with open_snapshot(tmp_path / "a.db") as snapshot:
            add(raw, 1)
            snapshot.copy_to(tmp_path / "copy.db", write)
        check_copy(tmp_path / "copy.db", "a.db")
        assert count(tmp_path / "copy.db") == ROWS
        assert steps == sorted(steps)
        assert len(steps) == -(-snapshot.size_bytes // (1_024 * 4_096))
        assert steps[-1] == snapshot.size_bytes == (tmp_path / "copy.db").stat().st_size


def test_a_copied_database_is_released_before_its_copy_is_checked(tmp_path: Path) -> None:
    """The writer can restart its log meanwhile."""
    with written(tmp_path / "a.db") as raw, open_snapshot(tmp_path / "a.db") as snapshot:
        add(raw, 1)
        raw.execute("PRAGMA busy_timeout=100")
        busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 1
        snapshot.copy_to(tmp_path / "copy.db", lambda _: None)
        busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0


def test_the_progress_callback_can_abort_a_copy(tmp_path: Path) -> None:
    """The partial copy is removed; the database is unaffected."""

    def give_up(_: int) -> None:
        raise InterruptedError

    with written(tmp_path / "a.db") as raw, open_snapshot(tmp_path / "a.db") as snapshot:
        with pytest.raises(InterruptedError):
            snapshot.copy_to(tmp_path / "copy.db", give_up)
        remove_database(tmp_path / "copy.db")
        add(raw, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.db"}


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """Whatever it contains."""
    (tmp_path / "copy.db").write_text("somebody's")
    with (
        written(tmp_path / "a.db"),
        open_snapshot(tmp_path / "a.db") as snapshot,
        pytest.raises(FileExistsError),
    ):
        snapshot.copy_to(tmp_path / "copy.db", lambda _: None)
    assert (tmp_path / "copy.db").read_text() == "somebody's"


@pytest.mark.parametrize(
    ("place", "damage"), [(40 * 4_096, bytes(4_096)), (36, b"\0\0\0\7"), (0, b"x" * 100)]
)
def test_a_damaged_copy_is_reported_under_its_database_s_name(
    tmp_path: Path, place: int, damage: bytes
) -> None:
    """The damage is in the database: a page, the free-page count, the header."""
    with written(tmp_path / "a.db"), open_snapshot(tmp_path / "a.db") as snapshot:
        snapshot.copy_to(tmp_path / "copy.db", lambda _: None)
    with (tmp_path / "copy.db").open("r+b") as file:
        file.seek(place)
        file.write(damage)
    with pytest.raises(StoreFailed, match=r"^a\.db is damaged: "):
        check_copy(tmp_path / "copy.db", "a.db")


def test_either_all_copies_get_their_names_or_none(tmp_path: Path) -> None:
    """One alone would pass for a backup."""
    (tmp_path / "one.partial").write_text("1")
    names = {tmp_path / "one.partial": tmp_path / "one", tmp_path / "absent": tmp_path / "two"}
    with pytest.raises(FileNotFoundError):
        publish_copies(names)
    assert not (tmp_path / "one").exists()
