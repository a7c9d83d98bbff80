"""Looks at the data directory and its databases without changing anything, not even a lock.

SQLite makes files beside a database with a write-ahead log, also when it only reads. So a
database that lies there without its log is read as immutable; one with a log has those files.
"""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from relay.cli.findings import Finding, bad, good
from relay.database.counters_sidecar import SidecarRecord, load_record
from relay.database.recovery.archive import find_archived
from relay.database.recovery.check import RecoverySpec, find_damage_in_content, find_damage_in_pages
from relay.database.recovery.pages import open_pages
from relay.errors import SchemaTooNew

FOLDER: Final = "data directory"
SQLITE: Final = "SQLite"

SOUND_SINCE: Final = (3, 51, 3)
"""The log-reset defect is gone from here on. Source: sqlite.org/wal.html, 2026."""

BUSY_TIMEOUT_S: Final = 5.0

_MENDED: Final = "the next start sets it aside, saves what can be read and counts what is lost"


def check_folder(folder: Path) -> Finding:
    """Say whether the data directory is there and can be written, or can be made."""
    nearest = nearest_of(folder)
    if not nearest.is_dir():
        return bad(FOLDER, f"{nearest} is no folder")
    if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        return bad(FOLDER, f"{nearest} cannot be written by this user")
    return good(FOLDER, f"{folder}" if nearest == folder else f"{folder}, made at the first start")


def nearest_of(folder: Path) -> Path:
    """Return a folder, or the nearest above it that is there; what is there may be no folder."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def check_database(path: Path, spec: RecoverySpec) -> Finding:
    """Say whether a database is whole and of a schema this relay knows.

    Args:
        path: The file; it need not be there.
        spec: What recovery knows of it.
    """
    name = path.name
    record = load_record(path)  # before the database: it may be older, and never is newer
    if not os.path.lexists(path):
        if record or path.with_name(f"{name}-wal").exists():
            return bad(name, f"{path} is missing, but it was there; {_MENDED}")
        return good(name, "not there yet, made at the first start")
    if not os.access(path, os.R_OK | os.W_OK):
        return bad(name, f"{path} cannot be read and written by this user")
    has_log, has_index = (path.with_name(name + tail).exists() for tail in ("-wal", "-shm"))
    try:
        faults = [] if has_index else _examine_at_rest(path, record)
        if faults:
            return bad(name, f"{path} is damaged: {'; '.join(faults)}; {_MENDED}")
        if has_log and not has_index:
            return good(
                name, "has a log without its index: the next start reads it, a check cannot"
            )
        return _check_content(path, spec, record, has_log=has_log)
    except SchemaTooNew as error:
        return bad(name, str(error))
    except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
        return bad(name, f"{path} cannot be read: {error}; {_MENDED}")


def _examine_at_rest(path: Path, record: SidecarRecord) -> list[str]:
    """Look at the files themselves, which nobody changes."""
    with open_pages(path) as pages:
        if not pages.count:
            return ["it is empty, but it was not"] if record else []
        return find_damage_in_pages(pages)


def _check_content(
    path: Path, spec: RecoverySpec, record: SidecarRecord, *, has_log: bool
) -> Finding:
    newest = len(spec.migrations)
    with closing(_open_unchanging(path, has_log=has_log)) as raw:
        raw.execute("BEGIN")
        (schema,) = raw.execute("PRAGMA user_version").fetchone()
        if schema > newest:
            return bad(path.name, f"has schema {schema}, this relay knows up to {newest}")
        faults = find_damage_in_content(raw, spec, record, whole=True)
    if faults:
        return bad(path.name, f"{path} is damaged: {'; '.join(faults)}; {_MENDED}")
    if schema < newest:
        return good(path.name, f"whole; schema {schema}, brought to {newest} at the next start")
    return good(path.name, f"whole; schema {schema}")


def check_archived(path: Path) -> list[Finding]:
    """Name what was set aside of a database, what was saved of it and what is lost."""
    if not path.parent.is_dir():
        return []
    return [
        good(
            f"{path.name}, damaged",
            f"set aside as {aside.path.name}: {aside.why}; saved {_amounts(aside.saved)}, "
            f"lost {_amounts(aside.lost)}; nothing needs it, a person may look at it and remove it",
        )
        for aside in find_archived(path)
    ]


def _amounts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items()) or "nothing"


def check_sqlite() -> Finding:
    """Say which SQLite is used, and what that means."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= SOUND_SINCE:
        return good(SQLITE, version)
    sound = ".".join(map(str, SOUND_SINCE))
    return good(
        SQLITE,
        f"{version}; before {sound} two writers at once can lose a commit (the WAL-reset defect): "
        "relay has one writer and is not concerned, leave other programs read-only",
    )


def _open_unchanging(path: Path, *, has_log: bool) -> sqlite3.Connection:
    mode = "mode=ro" if has_log else "immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
