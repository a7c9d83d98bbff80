"""Disk space, and the files of a database.

The figures of a file system do not know quotas and limits, so whether there is room is tried out.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from relay.errors import StoreFailed

PROBE_BYTES = 8 * 1024 * 1024
"""With less free than this, a failed write is blamed on the lack of room."""

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM})
_NOT_KEPT = frozenset({errno.EINVAL, errno.EROFS, errno.ENOTSUP})
"""Folders that cannot be synced, on file systems where there is nothing to lose: read-only ones,
and those that keep nothing on a disk."""

COMPANIONS = ("-journal", "-wal", "-shm")
"""Endings of the files that SQLite puts beside a database."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def vacuum(raw: sqlite3.Connection, pages: int) -> None:
    """Return `pages` free pages to the file system, if there are more.

    The rest stays: a database that shrank to the last page would grow again at the next insert.
    """
    (free,) = raw.execute("PRAGMA freelist_count").fetchone()
    if free > pages:
        for _ in range(pages):  # Python steps the statement once, and a step frees one page
            raw.execute("PRAGMA incremental_vacuum(1)").fetchall()


def has_room(folder: Path, size_bytes: int = PROBE_BYTES) -> bool:
    """Tell whether the largest file of `folder` could grow by `size_bytes`, by trying it out.

    False if the disk, a quota or the limit of a file's size forbids it; true also where it cannot
    be tried.
    """
    try:
        largest_bytes = max(_sizes_bytes(folder), default=0)
        with TemporaryFile(dir=folder, buffering=0) as probe:
            # Behind the size of the largest file, so that a limit of file sizes shows, too.
            os.posix_fallocate(probe.fileno(), largest_bytes, max(1, size_bytes))
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def _sizes_bytes(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                yield entry.stat().st_size


def remove_database(path: Path) -> None:
    """Remove a database, or what is there of it."""
    for ending in ("", *COMPANIONS):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names of a folder's files durable: syncing a file does not sync its name.

    The folder and its parents may be just as new, so they are synced as well, as far as this user
    may open them.

    Raises:
        StoreFailed: If the disk failed.
    """
    _sync(folder, frozenset())
    for parent in folder.absolute().parents:
        _sync(parent, _NOT_OURS | _NOT_KEPT)


def _sync(folder: Path, excused: frozenset[int]) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in excused:
            raise StoreFailed(f"{folder} cannot be synced: {error.strerror}") from error
