"""Makes sure, before a database is opened, that it is whole; if it is not, saves what can be saved.

Every start looks at the header, the log and the schema, and compares the counts with the
sidecar (`relay.database.counters_sidecar`). A small database is read whole, a large one only after
an end that damage may have caused: damage met while running ends the process, and the next start
recovers.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from relay.database.connection import BUSY_TIMEOUT_MS
from relay.database.counters_sidecar import SidecarRecord, load_record
from relay.database.errors import translate
from relay.database.migrations import migrate
from relay.database.recovery.archive import (
    ArchivedDatabase,
    clear_unclean_mark,
    finish_interrupted,
    is_marked_unclean,
    make_stamp,
    mark_unclean,
    put_in_place,
    rescuing_path,
)
from relay.database.recovery.pages import Pages, open_pages
from relay.database.recovery.records import PAGE_BYTES
from relay.database.recovery.salvage import (
    SQL,
    Check,
    Salvage,
    copy_rows,
    find_roots,
    find_tables,
    read_rows,
    read_schema,
)
from relay.errors import RelayError, SchemaTooNew, StoreDamaged, StoreError, StoreFailed

log = structlog.get_logger(__name__)

SMALL_BYTES: Final = 16 * 1024 * 1024
"""A database up to this size is read whole at every start."""

HIGHEST_SCHEMA: Final = 9_999
"""Migrations have four digits; a larger number was never written by any relay."""

MOST_FAULTS: Final = 3

_HEADING: Final = "***"
"""Begins the line with which SQLite names the database whose faults follow."""


class FindFaults(Protocol):
    """Says what does not fit together in a database whose every page may be sound."""

    def __call__(self, raw: sqlite3.Connection, record: SidecarRecord, *, whole: bool) -> list[str]:
        """Hold it against the last record of it; look at every row only if `whole`."""


@dataclass(frozen=True, slots=True)
class RecoverySpec:
    """What recovery needs to know of a store.

    Attributes:
        migrations: Its scripts.
        checks: By table, what a row must fulfil to make sense.
        find_faults: Says what does not fit together in it.
        settle: Brings what was saved to rest, and returns what is known to be lost.
    """

    migrations: Sequence[str]
    checks: Mapping[str, Check]
    find_faults: FindFaults
    settle: Callable[[sqlite3.Connection, Salvage, SidecarRecord], Mapping[str, int]]


def recover(database: Path, spec: RecoverySpec, now_ms: int) -> ArchivedDatabase | None:
    """Make sure that a database is whole; return what had to be set aside.

    Args:
        database: The file, which nobody has open.
        spec: The store's knowledge.
        now_ms: Names what is set aside.

    Raises:
        SchemaTooNew: If a later relay wrote it; nothing is changed.
        StoreFull: If there is no room for what can be saved.
        StoreFailed: If the disk failed.
    """
    try:
        finish_interrupted(database)
        record = load_record(database)
        is_whole = is_marked_unclean(database)
        faults = find_damage(database, spec, record, whole=is_whole)
        if not faults:
            if is_whole:
                clear_unclean_mark(database)
            return None
        return _rescue(database, spec, "; ".join(faults[:MOST_FAULTS]), record, now_ms)
    except OSError as error:
        raise StoreFailed(f"{database.name} cannot be opened: {error.strerror}") from error


def find_damage(
    database: Path, spec: RecoverySpec, record: SidecarRecord, *, whole: bool
) -> list[str]:
    """Return what is wrong with a database, in sentences without anything of its content.

    Raises:
        SchemaTooNew: If a later relay wrote it.
        StoreFailed: If it cannot be read for another reason.
    """
    with open_pages(database) as pages:
        if not pages.count:
            return ["it is missing, but it was there"] if record else []
        faults = find_damage_in_files(pages, spec, record)
        if not faults and whole:
            faults = _examine_rows(pages, spec)
        is_small = pages.count * PAGE_BYTES <= SMALL_BYTES
    if faults:
        return faults
    try:
        with closing(_open(database)) as raw:
            return find_damage_in_content(raw, spec, record, whole=whole or is_small)
    except sqlite3.Error as error:
        failure = translate(error)
        if isinstance(failure, StoreError) and not isinstance(failure, StoreDamaged):
            raise StoreFailed(f"{database.name} cannot be opened: {error}") from error
        return [f"SQLite says: {error}"]


def find_damage_in_files(pages: Pages, spec: RecoverySpec, record: SidecarRecord) -> list[str]:
    """Return what is wrong with a database's header, log and schema, without SQLite.

    Raises:
        SchemaTooNew: If a later relay wrote it.
    """
    if not pages.in_file:
        return ["it is missing, and its write-ahead log is there"]  # SQLite would remove that
    if not pages.is_database:
        return ["it is no SQLite database"]
    if pages.log.is_damaged:
        return ["its write-ahead log is damaged before the end"]
    if pages.missing:
        return [f"{pages.missing} of its {pages.count} pages are missing"]
    schema = read_schema(pages)
    if schema is None:
        return ["its schema cannot be read"]
    newest, version = len(spec.migrations), pages.version
    expected = _schema_of(spec.migrations[: version or newest])
    tables = {name for kind, name, *_ in expected if kind == "table"}
    there = {name for kind, name, *_ in schema if kind == "table"}
    if newest < version <= HIGHEST_SCHEMA and (not schema or tables & there):
        raise SchemaTooNew(
            f"the database has schema {version}, this relay knows up to {newest}: "
            "install the relay that wrote it, or a later one"
        )
    if not version and not schema:  # a start that was interrupted, if it was the first
        return ["it is empty, but it was not"] if record else []
    if 0 < version <= newest and (
        expected <= schema or (_rootless(expected) <= _rootless(schema) and find_roots(pages))
    ):
        return []
    if not tables & there:
        return ["it is another program's database"]
    return [f"it says that its schema is {version}, and it is not"]


def _rootless(objects: Iterable[tuple[object, ...]]) -> set[tuple[object, ...]]:
    """Return the objects of a schema wherever they are in the file: `VACUUM` moves them."""
    return {(kind, name, table, sql) for kind, name, table, _, sql in objects}


def _schema_of(migrations: Sequence[str]) -> set[tuple[object, ...]]:
    """Return the objects of a new database's schema."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute("PRAGMA auto_vacuum=INCREMENTAL")
        migrate(raw, migrations)
        return set(raw.execute(SQL["schema"]))


def _examine_rows(pages: Pages, spec: RecoverySpec) -> list[str]:
    """Decode every row, as relay would."""
    found, nonsense = Salvage(), 0
    with closing(_open_new(":memory:", spec.migrations)) as raw:
        tables = find_tables(pages, raw)
    for table, values in read_rows(pages, tables, found):
        check = spec.checks.get(table.name)
        if check and not check(dict(zip(table.columns, values, strict=True))):
            nonsense += 1
    damages = found.damages + nonsense
    return [f"{damages} rows or pages are damaged"] if damages else []


def find_damage_in_content(
    raw: sqlite3.Connection, spec: RecoverySpec, record: SidecarRecord, *, whole: bool
) -> list[str]:
    """Return what SQLite finds wrong, and what does not fit together."""
    if whole:
        rows = raw.execute(f"PRAGMA integrity_check({MOST_FAULTS})").fetchall()
        faults = [line for (text,) in rows for line in str(text).splitlines()]
        if faults != ["ok"]:
            return [line for line in faults if not line.startswith(_HEADING)]
    (version,) = raw.execute("PRAGMA user_version").fetchone()
    if version < len(spec.migrations):
        return []  # the queries are of the newest schema; the next start asks them
    return spec.find_faults(raw, record, whole=whole)


def _rescue(
    database: Path, spec: RecoverySpec, why: str, record: SidecarRecord, now_ms: int
) -> ArchivedDatabase:
    """Copy what can be read into a new database and put it in the place of the damaged one."""
    log.warning("database.rescue_started", database=database.name, why=why)
    stamp = make_stamp(database, now_ms)
    new = rescuing_path(database)
    try:
        with (
            open_pages(database, remains=True) as pages,
            closing(_open_new(str(new), spec.migrations)) as raw,
        ):
            found = copy_rows(pages, raw, spec.checks)
            raw.execute("BEGIN")
            lost = spec.settle(raw, found, record)
            raw.execute("COMMIT")
    except sqlite3.Error as error:
        rescuing_path(database)
        failure = translate(error)
        if isinstance(failure, StoreError):
            reason = f"{database.name} is damaged ({why}) and cannot be rescued: {error}"
            raise type(failure)(reason) from error
        raise
    told = ArchivedDatabase(database, why, found.saved, lost)
    told = told._replace(path=put_in_place(database, stamp, told))
    log.error(
        "database.rescued",
        database=database.name,
        why=why,
        kept_as=told.path.name,
        saved=dict(found.saved),
        spoilt_rows=dict(found.spoilt),
        spoilt_pages={**found.blank, "of any table": found.adrift},
        lost=dict(lost),
    )
    return told


def _open(database: Path) -> sqlite3.Connection:
    raw = sqlite3.connect(database, isolation_level=None)
    raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return raw


def _open_new(place: str, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a new database that nothing depends on until it is whole and synced."""
    raw = sqlite3.connect(place, isolation_level=None)
    for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=MEMORY", "synchronous=OFF"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    migrate(raw, migrations)
    return raw


@contextmanager
def mark_unclean_on_error(database: Path) -> Iterator[None]:
    """Have the next start read all of a database if the block ends in a way damage may cause."""
    try:
        yield
    except BaseException as error:
        if _may_be_damage(error):
            with suppress(OSError):  # a full disk, perhaps
                mark_unclean(database)
        raise


def _may_be_damage(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_may_be_damage(part) for part in error.exceptions)
    if isinstance(error, RelayError):
        return isinstance(error, StoreFailed)
    return isinstance(error, Exception) and not isinstance(error, OSError)
