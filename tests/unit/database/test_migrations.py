"""Migrations: forward, atomic, and never past a known version."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.database.migrations import find_migrations, migrate
from relay.errors import SchemaTooNew

ONE = "CREATE TABLE one (x INTEGER);"
TWO = "CREATE TABLE two (x INTEGER); INSERT INTO one VALUES (2);"


@pytest.fixture
def raw() -> Iterator[sqlite3.Connection]:
    """A database in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def _version(raw: sqlite3.Connection) -> int:
    (version,) = raw.execute("PRAGMA user_version").fetchone()
    assert isinstance(version, int)
    return version


def test_scripts_run_in_order_and_once(raw: sqlite3.Connection) -> None:
    """Each script runs once, whenever it was added."""
    assert migrate(raw, [ONE]) == 1
    assert migrate(raw, [ONE, TWO]) == 1
    assert migrate(raw, [ONE, TWO]) == 0
    assert _version(raw) == 2
    assert raw.execute("SELECT x FROM one").fetchall() == [(2,)]


def test_a_later_schema_is_rejected_and_left_alone(raw: sqlite3.Connection) -> None:
    """An older relay never touches what a later one wrote."""
    raw.execute("PRAGMA user_version = 3")
    with pytest.raises(SchemaTooNew):
        migrate(raw, [ONE, TWO])
    assert _version(raw) == 3
    assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


@pytest.mark.parametrize(
    "broken",
    ["CREATE TABLE two (x); CREATE TABLE one (x);", "CREATE TABLE two (x); SELEC 1;"],
)
def test_a_failing_script_leaves_nothing_of_itself(raw: sqlite3.Connection, broken: str) -> None:
    """A database is before or after a script, never in between."""
    with pytest.raises(sqlite3.Error):
        migrate(raw, [ONE, broken])
    assert not raw.in_transaction
    assert _version(raw) == 1
    assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("one",)]


DYING = """
import os, signal, sqlite3, sys
from relay.database.migrations import migrate
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute("PRAGMA journal_mode=WAL")
raw.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
migrate(raw, sys.argv[2:])
"""


@pytest.mark.parametrize("middle", ["SELECT die();", "INSERT INTO one SELECT die() FROM two;"])
def test_a_kill_in_the_middle_leaves_nothing_of_a_script(tmp_path: Path, middle: str) -> None:
    """Version and tables change in one transaction, so no half migration exists."""
    path = tmp_path / "a.db"
    large = "CREATE TABLE two (x); INSERT INTO two VALUES (zeroblob(30000000));"
    scripts = [ONE, f"{large} {middle} CREATE TABLE three (x);"]
    done = subprocess.run([sys.executable, "-c", DYING, str(path), *scripts], check=False)
    assert done.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        assert _version(raw) == 1
        assert raw.execute("SELECT name FROM sqlite_schema").fetchall() == [("one",)]
        assert migrate(raw, [ONE, TWO]) == 1
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_files_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """A file name begins with the version it leads to."""
    for name in ("0002_b.sql", "0001_a.sql", "notes.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert find_migrations(tmp_path) == ["0001_a.sql", "0002_b.sql"]


@pytest.mark.parametrize("names", [["0002_b.sql"], ["0001_a.sql", "0003_c.sql"], ["a.sql"]])
def test_a_gap_in_the_numbers_is_rejected(tmp_path: Path, names: list[str]) -> None:
    """A missing file is detected at the start, not at the first query."""
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="is expected"):
        find_migrations(tmp_path)
