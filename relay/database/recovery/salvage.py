"""Copies every row that can still be read out of a damaged database into a new one.

A row is saved if the new schema takes it. Which rows belong together only the store knows
(`relay.outbox.recovery`, `relay.segments.recovery`).
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import orjson

from relay.database.migrations import migrate
from relay.database.recovery.format import TABLE_INTERIOR, TABLE_LEAF, page_kind
from relay.database.recovery.page_reader import (
    ROW_KINDS,
    Layout,
    PageReader,
    Value,
    open_page_reader,
)
from relay.database.recovery.pages import SCHEMA_ROOT, Pages
from relay.database.recovery.sql import SQL

Row: TypeAlias = Mapping[str, Value]
Check: TypeAlias = Callable[[Row], bool]
"""Tells whether the values of a row fit together."""

SEQUENCES: Final = "sqlite_sequence"

_SCHEMA: Final = Layout(SQL["create_schema_page"], is_keyed=False)


class Table(NamedTuple):
    """A table of the new schema.

    Attributes:
        name: Its name.
        columns: Its columns.
        layout: Of its pages.
        reading: The statement that returns its rows.
        emptying: The statement that removes them.
        insertion: The statement that adds a row.
    """

    name: str
    columns: tuple[str, ...]
    layout: Layout
    reading: str
    emptying: str
    insertion: str


@dataclass(slots=True)
class Salvage:
    """What was saved, and what is known to be missing.

    Attributes:
        saved: Rows by table.
        unreadable_rows: Rows by table that could not be read or taken over.
        unreadable_pages: Pages by table that could not be read.
        readable_pages: Pages by table that could.
        doubtful: Tables with pages that are damaged, whatever could be read of them.
        orphan_pages: Pages that may have held rows of any table.
        sequences: The last number that each table gave.
    """

    saved: Counter[str] = field(default_factory=Counter)
    unreadable_rows: Counter[str] = field(default_factory=Counter)
    unreadable_pages: Counter[str] = field(default_factory=Counter)
    readable_pages: Counter[str] = field(default_factory=Counter)
    doubtful: set[str] = field(default_factory=set)
    orphan_pages: int = 0
    sequences: Counter[str] = field(default_factory=Counter)

    def is_whole(self, *tables: str) -> bool:
        """Tell whether nothing of some tables is known to be lost."""
        return not self.orphan_pages and not any(
            self.unreadable_rows[table] or self.unreadable_pages[table] or table in self.doubtful
            for table in tables
        )

    def most_lost(self, table: str) -> int:
        """Return how many rows of a table may be lost at most, estimated by its other pages."""
        rows_per_page = -(-(self.saved[table] + 1) // max(1, self.readable_pages[table]))
        pages = self.unreadable_pages[table] + self.orphan_pages
        return self.unreadable_rows[table] + pages * rows_per_page


def copy_rows(
    pages: Pages, raw: sqlite3.Connection, checks: Mapping[str, Check], scratch: Path
) -> Salvage:
    """Copy what can be read into an open, new database.

    Args:
        pages: The damaged database.
        raw: The new one, migrated; foreign keys are not enforced.
        checks: By table, what a row must fulfil.
        scratch: A file to work in.
    """
    found, filled = Salvage(), set[str]()
    raw.execute("BEGIN")
    with open_page_reader(pages, scratch) as reader:
        for table, values in read_rows(pages, reader, _find_tables(pages, reader, raw), found):
            check = checks.get(table.name)
            if check and not check(dict(zip(table.columns, values, strict=True))):
                found.unreadable_rows[table.name] += 1
            elif table.name == SEQUENCES:
                _note_sequence(found, values)
            else:
                if table.name not in filled:  # a saved row replaces what the migrations inserted
                    raw.execute(table.emptying)
                    filled.add(table.name)
                _insert(raw, table, values, found)
    for name, seq in found.sequences.items():
        raise_sequence(raw, name, seq)
    raw.execute("COMMIT")
    return found


def open_new(place: str, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a new database that nothing depends on until it is complete and synced."""
    raw = sqlite3.connect(place, isolation_level=None)
    for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=MEMORY", "synchronous=OFF"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    migrate(raw, migrations)
    return raw


def raise_sequence(raw: sqlite3.Connection, name: str, seq: int) -> None:
    """Keep a table from giving a number again, up to and including `seq`."""
    raw.execute(SQL["begin_sequence"], {"name": name})
    raw.execute(SQL["raise_sequence"], {"name": name, "seq": seq})


def read_tables(raw: sqlite3.Connection) -> dict[int, Table]:
    """Return the tables of a database by root page."""
    return {
        root: _read_table(raw, name, is_keyed=bool(is_keyed))
        for name, root, is_keyed in raw.execute(SQL["tables"]).fetchall()
    }


def _read_table(raw: sqlite3.Connection, name: str, *, is_keyed: bool) -> Table:
    wanted = {"table": name, "is_keyed": is_keyed}
    columns, create, *others = raw.execute(SQL["statements"], wanted).fetchone()
    layout = Layout(create, is_keyed)
    return Table(name, tuple(orjson.loads(columns)), layout, *others)


def _find_tables(pages: Pages, reader: PageReader, raw: sqlite3.Connection) -> dict[int, Table]:
    """Return a new database's tables by the root pages that they have in a damaged one."""
    tables = read_tables(raw)
    roots = find_roots(pages, reader)
    if not all(table.name in roots for table in tables.values()):
        return tables  # roots never move, except by `VACUUM`
    return {roots[table.name]: table for table in tables.values()}


def find_roots(pages: Pages, reader: PageReader) -> dict[str, int]:
    """Return the root pages by the database's own schema, as far as the pointer map agrees."""
    roots: dict[str, int] = {}
    for number, owner in pages.owners({SCHEMA_ROOT}):
        page = pages.read_tree_page(number)
        if owner == SCHEMA_ROOT and page_kind(page) == TABLE_LEAF:
            try:
                rows = [row for row in reader.rows(_SCHEMA, page) if row]
            except sqlite3.DatabaseError:
                continue
            roots |= {str(name): root for _, name, _, root, _ in rows if isinstance(root, int)}
    known = Counter(roots.values())
    return {name: root for name, root in roots.items() if known[root] == 1 and pages.is_root(root)}


def read_rows(
    pages: Pages, reader: PageReader, tables: Mapping[int, Table], found: Salvage
) -> Iterator[tuple[Table, tuple[Value, ...]]]:
    """Yield every row that can be read; count in `found` what cannot."""
    for number, root in pages.owners(tables):
        page = pages.read_tree_page(number)
        kind = page_kind(page)
        if root is None:
            found.orphan_pages += kind in ROW_KINDS[True] | ROW_KINDS[False] or not page
            continue
        table = tables.get(root)
        if table is None:
            continue
        if number in pages.wal.doubtful:
            found.doubtful.add(table.name)
        if number in pages.wal.unread and page:  # an older version of it is there
            found.unreadable_pages[table.name] += 1
        if kind != TABLE_INTERIOR:
            for values in _read_page(reader, table, page, found):
                yield table, values


def _read_page(
    reader: PageReader, table: Table, page: bytes, found: Salvage
) -> Iterator[tuple[Value, ...]]:
    if page_kind(page) not in ROW_KINDS[table.layout.is_keyed]:
        found.unreadable_pages[table.name] += 1
        return
    try:
        for values in reader.rows(table.layout, page):
            if values is None:
                found.unreadable_rows[table.name] += 1
            else:
                yield values
    except sqlite3.DatabaseError:
        found.unreadable_pages[table.name] += 1
    else:
        found.readable_pages[table.name] += 1


def _insert(
    raw: sqlite3.Connection, table: Table, values: tuple[Value, ...], found: Salvage
) -> None:
    try:
        raw.execute(table.insertion, values)
    except sqlite3.IntegrityError:
        found.unreadable_rows[table.name] += 1
    else:
        found.saved[table.name] += 1


def _note_sequence(found: Salvage, values: tuple[Value, ...]) -> None:
    name, seq = values
    if isinstance(name, str) and isinstance(seq, int):
        found.sequences[name] = max(seq, found.sequences[name])
