"""A second book of counts beside a database, by which it is noticed that commits are missing.

SQLite reads a write-ahead log up to the first damage and takes what stands behind for never
written; of a log that is gone it says nothing at all. So what must not be missed is noted in a
file of its own after each commit. The note is not synced: it may be older than the database, and
never is newer.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from zlib import crc32

import orjson

Note: TypeAlias = dict[str, Any]  # what it holds is known by who reads it

SUFFIX: Final = ".tally"

_MARK: Final = b"relay tally 1"


class Tally:
    """The second book.

    Args:
        path: The file.
        read: Reads what is to be noted, inside the transaction that changed it.
        drop: Called when that transaction was undone, so that nothing of it is remembered.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[sqlite3.Connection], Note],
        drop: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._read = read
        self.drop = drop
        self._file: int | None = None
        self._kept = b""

    def take(self, raw: sqlite3.Connection) -> bytes:
        """Return the note of a transaction that is about to be committed."""
        return orjson.dumps(self._read(raw))

    def keep(self, note: bytes) -> None:
        """Write a note, once its transaction is committed and synced.

        Where the disk takes none, the older one stays: it is true as well.
        """
        if note == self._kept:
            return
        with suppress(OSError):
            if self._file is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            head = b"%b %08x %d\n" % (_MARK, crc32(note), len(note))
            os.pwrite(self._file, head + note, 0)
            self._kept = note

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def tally_path(database: Path) -> Path:
    """Return where the second book of a database is."""
    return database.with_name(f"{database.name}{SUFFIX}")


def load_note(database: Path) -> Note:
    """Return what was last noted of a database; nothing if there is no whole note."""
    try:
        text = tally_path(database).read_bytes()
    except OSError:
        return {}
    head, _, rest = text.partition(b"\n")
    mark, _, numbers = head.partition(_MARK + b" ")
    try:
        total, length = numbers.split()
        note = rest[: int(length)]
        if mark or crc32(note) != int(total, 16) or len(note) != int(length):
            return {}
    except ValueError:
        return {}
    loaded: Note = orjson.loads(note)
    return loaded
