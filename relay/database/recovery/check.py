"""Finds out whether a database file is whole.

Every start looks at the header, the log and the schema, and compares the counts with the sidecar
(`relay.database.counters_sidecar`). A small database is read whole, a large one only after an end
that damage may have caused: damage met while running ends the process, and the next start looks.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from relay.database.connection import BUSY_TIMEOUT_MS
from relay.database.counters_sidecar import SidecarRecord
from relay.database.errors import is_undecodable, translate
from relay.database.migrations import read_version, refuse_newer
from relay.database.recovery.format import PAGE_BYTES
from relay.database.recovery.pages import Pages, open_pages
from relay.database.recovery.salvage import Check, Salvage, open_new, read_tables
from relay.database.recovery.sql import SQL
from relay.errors import StoreDamaged, StoreError, StoreFailed

SMALL_BYTES: Final = 16 * 1024 * 1024
"""A database up to this size is read whole at every start."""

HIGHEST_SCHEMA: Final = 9_999
"""Migrations have four digits; a larger number was never written by any relay."""

MOST_FAULTS: Final = 3

_HEADING: Final = "***"
"""Begins the line with which SQLite names the database whose faults follow."""


class FindFaults(Protocol):
    """Finds what is inconsistent in a database whose every page may be sound."""

    def __call__(self, raw: sqlite3.Connection, record: SidecarRecord, *, whole: bool) -> list[str]:
        """Compare it with the sidecar's record; look at every row only if `whole`."""


@dataclass(frozen=True, slots=True)
class RecoverySpec:
    """What recovery needs to know of a store.

    Attributes:
        migrations: Its scripts.
        checks: By table, what a row must fulfil to make sense.
        find_faults: Finds what is inconsistent in it.
        make_consistent: Makes the saved rows fit together, in a transaction, and returns what is
            known to be lost.
    """

    migrations: Sequence[str]
    checks: Mapping[str, Check]
    find_faults: FindFaults
    make_consistent: Callable[[sqlite3.Connection, Salvage, SidecarRecord], Mapping[str, int]]


def find_damage(
    database: Path, spec: RecoverySpec, record: SidecarRecord, *, whole: bool
) -> list[str]:
    """Return what is wrong with a database, in sentences that quote nothing of its content.

    Args:
        database: The file, which nobody has open.
        spec: The store's knowledge.
        record: The last one in its sidecar.
        whole: Whether to read every row, however large it is.

    Raises:
        SchemaTooNew: If a later relay wrote it.
        StoreFailed: If it cannot be read for another reason.
    """
    with open_pages(database) as pages:
        if not pages.count:
            return ["it is missing, but it was there"] if record else []
        if faults := find_damage_in_pages(pages):
            return faults
        try:
            # Without its log, so that SQLite makes no file beside what a later relay wrote.
            if len(spec.migrations) < pages.schema_version <= HIGHEST_SCHEMA:
                with closing(_open(database, "immutable=1")) as raw:
                    return _find_damage_in_schema(raw, spec, record)
            # Not read-only: a crash may have left a journal that has to be rolled back first.
            with closing(_open(database, "mode=rw")) as raw:
                is_small = pages.count * PAGE_BYTES <= SMALL_BYTES
                faults = find_damage_in_content(raw, spec, record, whole=whole or is_small)
                faults = faults or _find_misplaced_roots(raw, spec, pages)
                return faults or (_find_damage_in_rows(raw, spec) if whole else [])
        except UnicodeDecodeError:  # raised by SQLite's own message about a damaged schema
            return ["its schema cannot be read"]
        except sqlite3.Error as error:
            failure = translate(error)
            if isinstance(failure, StoreError) and not isinstance(failure, StoreDamaged):
                raise StoreFailed(f"{database.name} cannot be opened: {error}") from error
            return ["a text is not UTF-8" if is_undecodable(error) else f"SQLite says: {error}"]


def find_damage_in_pages(pages: Pages) -> list[str]:
    """Return what is wrong with a database's header and log, which SQLite would not say."""
    if not pages.in_file:
        return ["it is missing, and its write-ahead log is there"]  # SQLite would remove that
    if not pages.is_database:
        return ["it is no SQLite database"]
    if pages.wal.is_damaged:
        return ["its write-ahead log is damaged before the end"]
    if pages.missing:
        return [f"{pages.missing} of its {pages.count} pages are missing"]
    return []


def find_damage_in_content(
    raw: sqlite3.Connection, spec: RecoverySpec, record: SidecarRecord, *, whole: bool
) -> list[str]:
    """Return what is wrong with a database's schema, and what is inconsistent in it.

    Args:
        raw: Only read.
        spec: The store's knowledge.
        record: The last one in the sidecar.
        whole: Whether to look at every row.

    Raises:
        SchemaTooNew: If a later relay wrote it.
        sqlite3.Error: If it cannot be read.
    """
    if faults := _find_damage_in_schema(raw, spec, record):
        return faults
    if whole:
        rows = raw.execute(f"PRAGMA integrity_check({MOST_FAULTS})").fetchall()
        faults = [line for (text,) in rows for line in str(text).splitlines()]
        if faults != ["ok"]:
            return [line for line in faults if not line.startswith(_HEADING)]
    if read_version(raw) < len(spec.migrations):
        return []  # the store's queries are of the newest schema; the next start asks them
    return spec.find_faults(raw, record, whole=whole)


def _find_damage_in_schema(
    raw: sqlite3.Connection, spec: RecoverySpec, record: SidecarRecord
) -> list[str]:
    newest, version = len(spec.migrations), read_version(raw)
    schema, expected = _schema(raw), set[tuple[object, ...]]()
    with closing(open_new(":memory:", spec.migrations[: max(version, 0) or newest])) as new:
        expected = _schema(new)
    tables = {name for kind, name, *_ in expected if kind == "table"}
    there = {name for kind, name, *_ in schema if kind == "table"}
    if version <= HIGHEST_SCHEMA and (not schema or tables & there):
        refuse_newer(version, newest)
    if not version and not schema:  # a first start that was interrupted
        return ["it is empty, but it was not"] if record else []
    if 0 < version <= newest and expected <= schema:
        return []
    if not tables & there:
        return ["it is another program's database"]
    return [f"it says that its schema is {version}, and it is not"]


def _find_misplaced_roots(raw: sqlite3.Connection, spec: RecoverySpec, pages: Pages) -> list[str]:
    """Return whether the schema names pages that begin no table or index.

    SQLite would read another table's rows there. `VACUUM` moves roots, so their numbers alone
    tell nothing; the pointer map knows them, too.
    """
    with closing(open_new(":memory:", spec.migrations[: read_version(raw)])) as new:
        usual = set(new.execute(SQL["roots"]))
    moved = set(raw.execute(SQL["roots"])) - usual
    roots = {root for _, root in moved}
    if len(roots) == len(moved) and all(pages.is_root(root) for root in roots):
        return []
    return ["its schema names pages where no table begins"]


def _find_damage_in_rows(raw: sqlite3.Connection, spec: RecoverySpec) -> list[str]:
    """Return how many rows make no sense, after reading every one as relay would."""
    nonsense = 0
    for table in read_tables(raw).values():
        check = spec.checks.get(table.name)
        for values in raw.execute(table.reading):  # also finds texts that are not UTF-8
            if check and not check(dict(zip(table.columns, values, strict=True))):
                nonsense += 1
    return [f"{nonsense} rows make no sense"] if nonsense else []


def _schema(raw: sqlite3.Connection) -> set[tuple[object, ...]]:
    """Return type, name, table and text of a schema's objects."""
    return set(raw.execute(SQL["schema"]))


def _open(database: Path, mode: str) -> sqlite3.Connection:
    uri = f"{database.absolute().as_uri()}?{mode}"
    raw = sqlite3.connect(uri, uri=True, isolation_level=None)
    raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return raw
