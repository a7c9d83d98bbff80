"""The second book: the last note that was written whole, or nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.database.tally import Tally, load_note, tally_path

NOTE = {"apps": [[1, "shop", 77]], "last_seq": 12_345}


def _keep(database: Path, *notes: dict[str, object]) -> None:
    for note in notes:
        tally = Tally(tally_path(database), lambda _, note=note: note)  # type: ignore[misc]
        with closing(sqlite3.connect(":memory:")) as raw:
            tally.keep(tally.take(raw))
        tally.close()


def test_the_last_note_counts(tmp_path: Path) -> None:
    """A shorter one too, over a longer one."""
    database = tmp_path / "a.db"
    assert load_note(database) == {}
    _keep(database, {"a": "x" * 500}, NOTE)
    assert load_note(database) == NOTE
    assert tally_path(database).stat().st_mode & 0o777 == 0o600


@given(place=st.integers(0, 70), bit=st.integers(0, 7))
def test_a_damaged_note_claims_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    """It would count events as lost that are there."""
    database = tmp_path_factory.getbasetemp() / "b.db"
    _keep(database, NOTE)
    data = bytearray(tally_path(database).read_bytes())
    data[place % len(data)] ^= 1 << bit
    tally_path(database).write_bytes(data)
    assert load_note(database) in ({}, NOTE)


def test_a_disk_that_takes_no_note_is_no_failure(tmp_path: Path) -> None:
    """The older note is true as well: less was accepted then."""
    _keep(tmp_path / "no such folder" / "c.db", NOTE)
    assert load_note(tmp_path / "no such folder" / "c.db") == {}
