"""The counters sidecar: the last record written completely, or none."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.database.counters_sidecar import CountersSidecar, load_record, sidecar_path

RECORD = {"apps": [[1, "shop", 77]], "last_seq": 12_345}


def _write(database: Path, *records: dict[str, object]) -> None:
    for record in records:
        sidecar = CountersSidecar(
            sidecar_path(database),
            lambda _, record=record: record,  # type: ignore[misc]
        )
        with closing(sqlite3.connect(":memory:")) as raw:
            sidecar.write(sidecar.encode(raw))
        sidecar.close()


def test_the_last_record_counts(tmp_path: Path) -> None:
    """A shorter one too, over a longer one."""
    database = tmp_path / "a.db"
    assert load_record(database) == {}
    _write(database, {"a": "x" * 500}, RECORD)
    assert load_record(database) == RECORD
    assert sidecar_path(database).stat().st_mode & 0o777 == 0o600


@given(place=st.integers(0, 70), bit=st.integers(0, 7))
def test_a_damaged_record_claims_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    """It would count existing events as lost."""
    database = tmp_path_factory.getbasetemp() / "b.db"
    _write(database, RECORD)
    data = bytearray(sidecar_path(database).read_bytes())
    data[place % len(data)] ^= 1 << bit
    sidecar_path(database).write_bytes(data)
    assert load_record(database) in ({}, RECORD)


def test_an_unwritable_record_is_no_failure(tmp_path: Path) -> None:
    """The older record is still correct: fewer events were accepted then."""
    _write(tmp_path / "no such folder" / "c.db", RECORD)
    assert load_record(tmp_path / "no such folder" / "c.db") == {}
