"""Tells whether a database is whole without changing anything, not even a lock.

SQLite makes files beside a database with a write-ahead log, also when it only reads. So a
database without its log is read as immutable; one with a log has those files already.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from relay.database.counters_sidecar import SidecarRecord, load_record
from relay.database.migrations import read_version
from relay.database.recovery.check import RecoverySpec, find_damage_in_content, find_damage_in_pages
from relay.database.recovery.pages import open_pages
from relay.errors import StoreFailed

SQLITE_VERSION: Final = sqlite3.sqlite_version

SOUND_SINCE: Final = "3.51.3"
"""From here on SQLite is free of the WAL-reset defect. Source: sqlite.org/wal.html, 2026."""

HAS_WAL_RESET_DEFECT: Final = sqlite3.sqlite_version_info < (3, 51, 3)

BUSY_TIMEOUT_S: Final = 5.0


class Inspection(NamedTuple):
    """What a database is like.

    Attributes:
        damage: A phrase for each fault; none in a database that is whole.
        schema: The version of its tables; `None` if its content was not read.
    """

    damage: Sequence[str] = ()
    schema: int | None = None


def inspect(path: Path, spec: RecoverySpec) -> Inspection:
    """Return what is wrong with a database.

    Its content is not read if it is damaged, or has a log without the log's index: only a start
    may make the index.

    Args:
        path: The file; one that never was there is whole.
        spec: The store's knowledge.

    Raises:
        SchemaTooNew: If a later relay wrote it.
        StoreFailed: If it cannot be read.
    """
    record = load_record(path)  # before the database: it may be older, and never is newer
    has_log, has_index = (path.with_name(path.name + tail).exists() for tail in ("-wal", "-shm"))
    if not os.path.lexists(path):
        return Inspection(["it is missing, but it was there"] if record or has_log else [])
    try:
        # With an index the database is in use, and its files change while they are read.
        if not has_index and (damage := _examine_files(path, record)):
            return Inspection(damage)
        if has_log and not has_index:
            return Inspection()
        return _examine_content(path, spec, record, has_log=has_log)
    except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
        raise StoreFailed(f"{path} cannot be read: {error}") from error


def _examine_files(path: Path, record: SidecarRecord) -> list[str]:
    with open_pages(path) as pages:
        if not pages.count:
            return ["it is empty, but it was not"] if record else []
        return find_damage_in_pages(pages)


def _examine_content(
    path: Path, spec: RecoverySpec, record: SidecarRecord, *, has_log: bool
) -> Inspection:
    mode = "mode=ro" if has_log else "immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    with closing(
        sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    ) as raw:
        raw.execute("BEGIN")
        schema = read_version(raw)
        return Inspection(find_damage_in_content(raw, spec, record, whole=True), schema)
