"""Recovers a database before it is opened: check it, save what can be read, archive the rest."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import structlog

from relay.database.counters_sidecar import SidecarRecord, load_record
from relay.database.disk import NO_ROOM
from relay.database.errors import translate
from relay.database.recovery.archive import (
    ArchivedDatabase,
    clear_unclean_mark,
    finish_interrupted,
    is_marked_unclean,
    make_stamp,
    mark_unclean,
    put_in_place,
    remove_unfinished,
    scratch_path,
    unfinished_path,
)
from relay.database.recovery.check import MOST_FAULTS, RecoverySpec, find_damage
from relay.database.recovery.pages import open_pages
from relay.database.recovery.salvage import Salvage, copy_rows, open_new
from relay.errors import RelayError, StoreError, StoreFailed, StoreFull

log = structlog.get_logger(__name__)


def recover(database: Path, spec: RecoverySpec, now_ms: int) -> ArchivedDatabase | None:
    """Make sure that a database is whole; return what had to be archived.

    Args:
        database: The file, which nobody has open.
        spec: The store's knowledge.
        now_ms: Names the archived files.

    Raises:
        SchemaTooNew: If a later relay wrote it; nothing is changed.
        StoreFull: If there is no room for what can be saved.
        StoreFailed: If the disk failed.
    """
    try:
        finish_interrupted(database)
        record = load_record(database)
        is_unclean = is_marked_unclean(database)
        faults = find_damage(database, spec, record, whole=is_unclean)
        if not faults:
            if is_unclean:
                clear_unclean_mark(database)
            return None
        return _rescue(database, spec, "; ".join(faults[:MOST_FAULTS]), record, now_ms)
    except OSError as error:
        kind = StoreFull if error.errno in NO_ROOM else StoreFailed
        raise kind(f"{database.name} cannot be opened: {error.strerror}") from error


def _rescue(
    database: Path, spec: RecoverySpec, why: str, record: SidecarRecord, now_ms: int
) -> ArchivedDatabase:
    """Copy what can be read into a new database and put it in the place of the damaged one."""
    log.warning("database.rescue_started", database=database.name, why=why)
    stamp = make_stamp(database, now_ms)
    try:
        found, lost = _build_new(database, spec, record)
    except sqlite3.Error as error:
        failure = translate(error)
        if isinstance(failure, StoreError):
            reason = f"{database.name} is damaged ({why}) and cannot be rescued: {error}"
            raise type(failure)(reason) from error
        raise
    archived = ArchivedDatabase(database, why, found.saved, lost)
    archived = archived._replace(path=put_in_place(database, stamp, archived))
    log.error(
        "database.rescued",
        database=database.name,
        why=why,
        kept_as=archived.path.name,
        saved=dict(found.saved),
        spoilt_rows=dict(found.unreadable_rows),
        spoilt_pages={**found.unreadable_pages, "of any table": found.orphan_pages},
        lost=dict(lost),
    )
    return archived


def _build_new(
    database: Path, spec: RecoverySpec, record: SidecarRecord
) -> tuple[Salvage, Mapping[str, int]]:
    """Fill a new database with what can be saved; return that, and what is known to be lost."""
    with ExitStack() as undo:
        undo.callback(remove_unfinished, database)
        with (
            open_pages(database, past_damage=True) as pages,
            closing(open_new(str(unfinished_path(database)), spec.migrations)) as raw,
        ):
            found = copy_rows(pages, raw, spec.checks, scratch_path(database))
            raw.execute("BEGIN")
            lost = spec.make_consistent(raw, found, record)
            raw.execute("COMMIT")
        undo.pop_all()
    return found, lost


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
    # Nonsense in a row shows as an error of any kind; an OSError names its own cause.
    return isinstance(error, Exception) and not isinstance(error, OSError)
