"""Copying a database that is written to at the same time."""

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
    """Give the writing connection of a database of 10 MB with a log."""
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
    """Return how many rows a copy holds."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as raw:
        (number,) = raw.execute("SELECT count(*) FROM rows").fetchone()
        return int(number)


def test_a_writer_neither_changes_nor_restarts_a_copy(tmp_path: Path) -> None:
    """Each step sees the moment of the snapshot, however much is committed and written back."""
    steps: list[int] = []
    with written(tmp_path / "a.db") as raw:

        def write(copied_bytes: int) -> None:
            steps.append(copied_bytes)
            assert len(steps) < 50, "it begins anew and anew"
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


def test_a_copied_database_is_let_go_before_its_copy_is_checked(tmp_path: Path) -> None:
    """The writer's log can be used from its start again."""
    with written(tmp_path / "a.db") as raw, open_snapshot(tmp_path / "a.db") as snapshot:
        add(raw, 1)
        busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 1
        snapshot.copy_to(tmp_path / "copy.db", lambda _: None)
        busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0


def test_who_watches_a_copy_can_give_it_up(tmp_path: Path) -> None:
    """What is there of it goes; the database does not care."""

    def give_up(_: int) -> None:
        raise InterruptedError

    with written(tmp_path / "a.db") as raw, open_snapshot(tmp_path / "a.db") as snapshot:
        with pytest.raises(InterruptedError):
            snapshot.copy_to(tmp_path / "copy.db", give_up)
        remove_database(tmp_path / "copy.db")
        add(raw, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.db"}


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    """Whatever it is."""
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
def test_a_copy_that_is_not_whole_is_told_by_its_databases_name(
    tmp_path: Path, place: int, damage: bytes
) -> None:
    """A person looks for the damage there: a page, the count of free pages, the header."""
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
