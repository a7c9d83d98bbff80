"""Rows read page by page: the same as SQLite reads, and no error from damaged ones."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.database.recovery.format import PAGE_BYTES
from relay.database.recovery.page_reader import Layout, Value, open_page_reader
from relay.database.recovery.pages import open_pages
from relay.database.recovery.salvage import Salvage, read_rows, read_tables

SCHEMA = """
CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, data BLOB, size INTEGER, share REAL);
CREATE TABLE pairs (a TEXT, b INTEGER, c BLOB, PRIMARY KEY (b, a)) WITHOUT ROWID;
CREATE INDEX things_by_name ON things (name);
"""

INTEGERS = st.none() | st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
THINGS = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.none() | TEXTS,
    st.none() | st.binary(max_size=60) | st.integers(3_000, 30_000).map(bytes),
    INTEGERS,
    st.none() | st.floats(allow_nan=False),
)
PAIRS = st.tuples(TEXTS, st.integers(-(2**40), 2**40), st.integers(0, 5_000).map(bytes))


def _write(path: Path, things: list[tuple[Value, ...]], pairs: list[tuple[Value, ...]]) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        raw.executescript(SCHEMA)
        raw.executemany("INSERT OR IGNORE INTO things VALUES (?, ?, ?, ?, ?)", things)
        raw.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", pairs)
        raw.commit()


@settings(deadline=None, max_examples=60)
@given(things=st.lists(THINGS, max_size=40), pairs=st.lists(PAIRS, max_size=40))
def test_every_row_is_read_as_sqlite_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    things: list[tuple[Value, ...]],
    pairs: list[tuple[Value, ...]],
) -> None:
    """With and without rowids, short and long, of every type."""
    path = tmp_path_factory.getbasetemp() / "rows.db"
    _write(path, things, pairs)
    with (
        closing(sqlite3.connect(path)) as raw,
        open_pages(path) as pages,
        open_page_reader(pages, path.with_name("pages")) as reader,
    ):
        found, rows = Salvage(), {"things": set[object](), "pairs": set[object]()}
        for table, values in read_rows(pages, reader, read_tables(raw), found):
            rows[table.name].add(values)
        assert rows["things"] == set(raw.execute("SELECT * FROM things"))
        assert rows["pairs"] == set(raw.execute("SELECT * FROM pairs"))
    assert found.is_whole("things", "pairs")


def _read_alone(folder: Path, page: bytes) -> list[tuple[Value, ...] | None] | None:
    """Return the rows of a page, None if nothing of it can be read."""
    empty = folder / "empty.db"
    empty.touch()
    with open_pages(empty) as pages, open_page_reader(pages, folder / "pages") as reader:
        try:
            return list(reader.rows(LAYOUTS[page[0]], page))
        except sqlite3.DatabaseError:
            return None


LAYOUTS = {
    0x0D: Layout("CREATE TABLE page (a INTEGER PRIMARY KEY, b, c)", is_keyed=False),
    0x0A: Layout("CREATE TABLE page (a, b, c, PRIMARY KEY (a)) WITHOUT ROWID", is_keyed=True),
    0x02: Layout("CREATE TABLE page (a, b, c, PRIMARY KEY (a)) WITHOUT ROWID", is_keyed=True),
}


@settings(deadline=None)
@given(
    head=st.binary(max_size=200),
    filler=st.binary(min_size=1, max_size=40),
    kind=st.sampled_from([0x0D, 0x0A, 0x02]),
)
def test_no_page_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, filler: bytes, kind: int
) -> None:
    """Whatever it contains: rows, or places where one was."""
    page = (bytes([kind, 0, 0, 0, 9]) + head + filler * PAGE_BYTES)[:PAGE_BYTES]
    rows = _read_alone(tmp_path_factory.getbasetemp(), page)
    assert rows is None or len(rows) <= 9


@settings(deadline=None)
@given(place=st.integers(1, PAGE_BYTES - 1), bits=st.integers(1, 255))
def test_a_flipped_byte_costs_what_it_hit(
    tmp_path_factory: pytest.TempPathFactory, place: int, bits: int
) -> None:
    """In a real page a flipped byte costs one row at most, unless its row index is hit."""
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.execute("CREATE TABLE page (a INTEGER PRIMARY KEY, b, c)")
        raw.executemany("INSERT INTO page VALUES (?, ?, ?)", _ROWS)
        raw.commit()
        page = bytearray(raw.serialize()[PAGE_BYTES : 2 * PAGE_BYTES])
    page[place] ^= bits
    rows = _read_alone(tmp_path_factory.getbasetemp(), bytes(page))
    if place >= 8:
        assert rows is not None
        assert len(rows) == len(_ROWS)
        assert len(set(rows) & set(_ROWS)) >= len(_ROWS) - 1


_ROWS: list[tuple[Value, ...]] = [(n, f"thing {n}", bytes(20)) for n in range(1, 31)]
