"""Rows read from bytes: the same as SQLite reads, and never an error from what is no row."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.database.recovery.pages import open_pages
from relay.database.recovery.records import (
    PAGE_BYTES,
    Broken,
    Cell,
    Value,
    read_cells,
    read_children,
)
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
    with closing(sqlite3.connect(path)) as raw, open_pages(path) as pages:
        found, rows = Salvage(), {"things": set[object](), "pairs": set[object]()}
        for table, values in read_rows(pages, read_tables(raw), found):
            named = dict(zip(table.columns, values, strict=True))
            rows[table.name].add(tuple(sorted(named.items(), key=lambda item: item[0])))
        for name, columns in (("things", "data, id, name, share, size"), ("pairs", "a, b, c")):
            names = columns.split(", ")
            read = raw.execute(f"SELECT {columns} FROM {name}")
            assert rows[name] == {tuple(zip(names, row, strict=True)) for row in read}
    assert found.damages == 0


@given(
    head=st.binary(max_size=200),
    filler=st.binary(min_size=1, max_size=40),
    kind=st.sampled_from([0x0D, 0x0A, 0x02]),
)
def test_no_page_is_an_error(head: bytes, filler: bytes, kind: int) -> None:
    """Whatever stands there: a row, or a place where one was."""
    page = (bytes([kind, 0, 0, 0, 9]) + head + filler * PAGE_BYTES)[:PAGE_BYTES]
    for cell in read_cells(page, lambda _: page):
        assert isinstance(cell, Cell | Broken)
    list(read_children(bytes([5]) + page[1:]))


@given(st.data())
def test_a_flipped_byte_is_no_error(data: st.DataObject) -> None:
    """A real page, with one byte another."""
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        raw.executescript(SCHEMA)
        raw.executemany("INSERT INTO things VALUES (?, ?, ?, ?, ?)", _ROWS)
        raw.commit()
        whole = raw.serialize()
        (root,) = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'things'").fetchone()
    page = bytearray(whole[(root - 1) * PAGE_BYTES : root * PAGE_BYTES])
    page[data.draw(st.integers(1, PAGE_BYTES - 1))] ^= data.draw(st.integers(1, 255))
    cells = list(read_cells(bytes(page), lambda _: b""))
    assert sum(isinstance(cell, Cell) for cell in cells) <= len(cells)


_ROWS = [(n, f"thing {n}", bytes(20), n * n, n / 3) for n in range(30)]
