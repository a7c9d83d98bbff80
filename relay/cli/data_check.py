"""Looks at the data directory and its databases without changing anything, not even a lock.

SQLite makes files beside a database with a write-ahead log, also when it only reads. So a
database that lies there without its log is read as immutable; one with a log has those files.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from relay.cli.findings import Finding, bad, good

FOLDER: Final = "data directory"
SQLITE: Final = "SQLite"

SOUND_SINCE: Final = (3, 51, 3)
"""The log-reset defect is gone from here on. Source: sqlite.org/wal.html, 2026."""

BUSY_TIMEOUT_S: Final = 5.0

MOST_DAMAGES_SHOWN: Final = 3


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


def check_database(path: Path, newest_schema: int) -> Finding:
    """Say whether a database is whole and of a schema this relay knows.

    Args:
        path: The file; it need not be there.
        newest_schema: The schema this relay would bring it to.
    """
    name = path.name
    if not os.path.lexists(path):
        return good(name, "not there yet, made at the first start")
    if not os.access(path, os.R_OK | os.W_OK):
        return bad(name, f"{path} cannot be read and written by this user")
    has_log, has_index = (path.with_name(name + tail).exists() for tail in ("-wal", "-shm"))
    if has_log and not has_index:
        return good(name, "has a log without its index: the next start reads it, a check cannot")
    try:
        with closing(_open_unchanging(path, has_log=has_log)) as raw:
            (schema,) = raw.execute("PRAGMA user_version").fetchone()
            damages = [row[0] for row in raw.execute(f"PRAGMA quick_check({MOST_DAMAGES_SHOWN})")]
    except sqlite3.Error as error:
        return bad(name, f"{path} cannot be read: {error}")
    if damages != ["ok"]:
        return bad(name, f"{path} is damaged: {'; '.join(damages)}")
    if schema > newest_schema:
        return bad(name, f"has schema {schema}, this relay knows up to {newest_schema}")
    if schema < newest_schema:
        return good(name, f"whole; schema {schema}, brought to {newest_schema} at the next start")
    return good(name, f"whole; schema {schema}")


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
