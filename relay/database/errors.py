"""Translates SQLite's errors into relay's, by who can do something about them."""

import sqlite3
from pathlib import Path

from relay.database.disk import has_room
from relay.errors import StoreDamaged, StoreFailed, StoreFull, StoreLocked

_PRIMARY_CODE = 0xFF
"""SQLite's extended result codes carry the primary code in the low byte."""

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG})
_PERHAPS_FULL = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""What SQLite reports where a quota or a limit leaves no room: it calls only `ENOSPC` full."""

_BROKEN = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def translate(error: sqlite3.Error, folder: Path | None = None) -> Exception:
    """Return relay's error for SQLite's, or `error` itself if it is a defect of relay.

    Args:
        error: SQLite's.
        folder: Of the file; with it, a write that failed for lack of room is told from one that
            failed because the disk did.
    """
    extended_code = getattr(error, "sqlite_errorcode", 0)
    code = extended_code & _PRIMARY_CODE
    if extended_code in _PERHAPS_FULL and folder and not has_room(folder):
        return StoreFull("the database takes nothing now: a quota or a limit leaves no room")
    if code == sqlite3.SQLITE_BUSY:
        return StoreLocked("another process holds the database")
    if is_undecodable(error):  # SQLite's own text would quote the row
        return StoreDamaged(
            "the database is damaged: a text is not UTF-8; the next start recovers it"
        )
    if code in _DAMAGED:
        return StoreDamaged(f"the database is damaged: {error}; the next start recovers it")
    if code in _FULL:
        return StoreFull(f"the database takes nothing now: {error}")
    if code in _BROKEN:
        return StoreFailed(f"the database failed: {error}")
    return error


def is_undecodable(error: sqlite3.Error) -> bool:
    """Tell whether a text was not UTF-8: Python's own error, so it has no code of SQLite's."""
    return isinstance(error, sqlite3.OperationalError) and not hasattr(error, "sqlite_errorcode")
