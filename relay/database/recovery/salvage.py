"""Copies every row that can still be read out of a damaged database into a new one.

Which rows belong together is for the store to say (`relay.outbox.recovery`,
`relay.segments.recovery`); here a row is saved if the new schema takes it.
"""

import sqlite3
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final, NamedTuple, TypeAlias

import orjson

from relay.database.queries import load_queries
from relay.database.recovery.pages import SCHEMA_START, Pages, Use, children_of
from relay.database.recovery.records import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    Broken,
    Cell,
    Value,
    page_kind,
    read_cells,
)

SQL: Final = load_queries(files("relay.database.recovery").joinpath("salvage.sql"))

Row: TypeAlias = Mapping[str, Value]
Check: TypeAlias = Callable[[Row], bool]
"""Tells whether what a row says fits together."""

SEQUENCES: Final = "sqlite_sequence"

_ROW_KINDS: Final = {False: {TABLE_LEAF}, True: {INDEX_LEAF, INDEX_INTERIOR}}
"""Pages with rows in them: of a table with rowids, of one without."""

_SCHEMA_COLUMNS: Final = 5


class Table(NamedTuple):
    """A table of the new schema.

    Attributes:
        name: Its name.
        root: Its root page in a new file of this schema.
        is_keyed: Whether it has no rowids.
        columns: Its columns in the order of a stored row.
        defaults: What a row that is older than a column has in it.
        rowid_place: Which column is the rowid, None if none is.
        insertion: The statement that adds a row.
    """

    name: str
    root: int
    is_keyed: bool
    columns: tuple[str, ...]
    defaults: tuple[Value, ...]
    rowid_place: int | None
    insertion: str

    def complete(self, cell: Cell) -> list[Value] | None:
        """Return a stored row's values, one for each column; None if there are too many."""
        values = cell.values
        if not values or len(values) > len(self.columns):
            return None
        values += self.defaults[len(values) :]
        if self.rowid_place is not None:
            values[self.rowid_place] = cell.rowid
        return values


@dataclass(slots=True)
class Salvage:
    """What was saved.

    Attributes:
        saved: Rows by table.
        spoilt: Rows by table that could not be read.
        blank: Pages by table that could not be read.
        pages: Pages by table that could.
        doubtful: Tables with pages that are damaged, whatever could be read of them.
        adrift: Pages that may have held rows of any table.
        sequences: The last number that each table gave.
    """

    saved: Counter[str] = field(default_factory=Counter)
    spoilt: Counter[str] = field(default_factory=Counter)
    blank: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    doubtful: set[str] = field(default_factory=set)
    adrift: int = 0
    sequences: Counter[str] = field(default_factory=Counter)

    @property
    def damages(self) -> int:
        """How many rows and pages could not be read."""
        return self.spoilt.total() + self.blank.total() + self.adrift

    def is_whole(self, *tables: str) -> bool:
        """Tell whether nothing of some tables is known to be lost."""
        return not self.adrift and not any(
            self.spoilt[table] or self.blank[table] or table in self.doubtful for table in tables
        )

    def most_lost(self, table: str) -> int:
        """Return how many rows of a table may be lost, by what its other pages hold."""
        rows_per_page = -(-(self.saved[table] + 1) // max(1, self.pages[table]))
        return self.spoilt[table] + (self.blank[table] + self.adrift) * rows_per_page


def read_tables(raw: sqlite3.Connection) -> dict[int, Table]:
    """Return the tables of a database by root page."""
    tables = [
        _read_table(raw, name, root, is_keyed=bool(is_keyed))
        for name, root, is_keyed in raw.execute(SQL["tables"]).fetchall()
    ]
    return {table.root: table for table in tables}


def _read_table(raw: sqlite3.Connection, name: str, root: int, *, is_keyed: bool) -> Table:
    rows = raw.execute(SQL["columns"], {"table": name, "is_keyed": is_keyed}).fetchall()
    columns = tuple(column for column, *_ in rows)
    keys = [place for place, (_, kind, _, pk) in enumerate(rows) if pk and kind == "INTEGER"]
    is_alias = not is_keyed and len(keys) == 1 and sum(pk > 0 for *_, pk in rows) == 1
    wanted = {"table": name, "columns": orjson.dumps(columns).decode()}
    return Table(
        name=name,
        root=root,
        is_keyed=is_keyed,
        columns=columns,
        defaults=tuple(literal_eval(text) if text else None for _, _, text, _ in rows),
        rowid_place=keys[0] if is_alias else None,
        insertion=raw.execute(SQL["insertion"], wanted).fetchone()[0],
    )


def find_roots(pages: Pages) -> dict[str, int] | None:
    """Return where the trees of a database begin, by name, None if that cannot be believed.

    They are elsewhere than in a new database once somebody ran `VACUUM` on it.
    """
    objects = read_schema(pages) or set()
    trees = {str(name): root for _, name, _, root, _ in objects if isinstance(root, int) and root}
    is_sound = len(set(trees.values())) == len(trees) and all(
        pages.entry(root).use is Use.ROOT for root in trees.values()
    )
    return trees if is_sound else None


def find_tables(pages: Pages, raw: sqlite3.Connection) -> dict[int, Table]:
    """Return a new database's tables by the root pages that they have in an old one."""
    tables = read_tables(raw)
    trees = find_roots(pages)
    if not trees or not all(table.name in trees for table in tables.values()):
        return tables
    return {trees[table.name]: table for table in tables.values()}


def read_rows(
    pages: Pages, tables: Mapping[int, Table], found: Salvage
) -> Iterator[tuple[Table, list[Value]]]:
    """Yield every row that can be read; count in `found` what cannot."""
    for number, root in pages.owners(tables):
        page = pages.read(number)
        kind = page_kind(page)
        if root is None:
            found.adrift += kind in {TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR} or not page
            continue
        table = tables.get(root)
        if table is None:
            continue
        if number in pages.log.doubtful:
            found.doubtful.add(table.name)
        if number in pages.log.unread and page:
            found.blank[table.name] += 1
        if kind == TABLE_INTERIOR:
            continue
        if kind not in _ROW_KINDS[table.is_keyed]:
            found.blank[table.name] += 1
            continue
        found.pages[table.name] += 1
        for cell in read_cells(page, pages.read):
            values = None if isinstance(cell, Broken) else table.complete(cell)
            if values is None:
                found.spoilt[table.name] += 1
            else:
                yield table, values


def copy_rows(pages: Pages, raw: sqlite3.Connection, checks: Mapping[str, Check]) -> Salvage:
    """Copy what can be read into an open, new database.

    Args:
        pages: The damaged database.
        raw: The new one, migrated; foreign keys are not enforced.
        checks: By table, what a row must fulfil.
    """
    found, filled = Salvage(), set[str]()
    raw.execute("BEGIN")
    for table, values in read_rows(pages, find_tables(pages, raw), found):
        check = checks.get(table.name)
        if check and not check(dict(zip(table.columns, values, strict=True))):
            found.spoilt[table.name] += 1
        elif table.name == SEQUENCES:
            _note_sequence(found, values)
        else:
            if table.name not in filled:  # what the migrations put there is there again
                raw.execute(raw.execute(SQL["emptying"], {"table": table.name}).fetchone()[0])
                filled.add(table.name)
            _insert(raw, table, values, found)
    for name, seq in found.sequences.items():
        raise_sequence(raw, name, seq)
    raw.execute("COMMIT")
    return found


def raise_sequence(raw: sqlite3.Connection, name: str, seq: int) -> None:
    """Let a table give no number again, up to one."""
    raw.execute(SQL["begin_sequence"], {"name": name})
    raw.execute(SQL["raise_sequence"], {"name": name, "seq": seq})


def read_schema(pages: Pages) -> set[tuple[Value, ...]] | None:
    """Return the objects of a database's schema, None if it cannot be read.

    Returns:
        Type, name, table, root page and text of each.
    """
    objects: set[tuple[Value, ...]] = set()
    waiting, seen = [1], set[int]()
    while waiting:
        number = waiting.pop()
        start = SCHEMA_START if number == 1 else 0
        page = pages.read(number)
        kind = page_kind(page, start=start)
        if number in seen or kind not in {TABLE_LEAF, TABLE_INTERIOR}:
            return None
        seen.add(number)
        if kind == TABLE_INTERIOR:
            waiting += children_of(page, start=start)
            continue
        for cell in read_cells(page, pages.read, start=start):
            if isinstance(cell, Broken) or len(cell.values) != _SCHEMA_COLUMNS:
                return None
            objects.add(tuple(cell.values))
    return objects


def _insert(raw: sqlite3.Connection, table: Table, values: list[Value], found: Salvage) -> None:
    try:
        raw.execute(table.insertion, values)
    except sqlite3.IntegrityError:
        found.spoilt[table.name] += 1
    else:
        found.saved[table.name] += 1


def _note_sequence(found: Salvage, values: list[Value]) -> None:
    name, seq = values[0], values[-1]
    if isinstance(name, str) and isinstance(seq, int):
        found.sequences[name] = max(seq, found.sequences[name])
