"""Room on the disk: giving free pages back, and finding out whether there is any.

The figures of a file system do not know of quotas and limits; only trying tells.
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
"""With less than this a failed write is taken for one that had no room."""

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM})
_NOT_KEPT = frozenset({errno.EINVAL, errno.EROFS, errno.ENOTSUP})
"""What a folder says that cannot be synced as it holds nothing that could be lost."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def vacuum(raw: sqlite3.Connection, pages: int) -> None:
    """Give up to `pages` free pages back, if there are more."""
    (free,) = raw.execute("PRAGMA freelist_count").fetchone()
    if free > pages:
        for _ in range(pages):  # Python steps the statement once, and a step frees one page
            raw.execute("PRAGMA incremental_vacuum(1)").fetchall()


def has_room(folder: Path, size_bytes: int = PROBE_BYTES) -> bool:
    """Tell whether the largest file of `folder` could grow by `size_bytes`, by trying it.

    False if the disk, a quota or the limit of a file's size forbids it; true also where it
    cannot be tried.
    """
    try:
        largest_bytes = max(_sizes_bytes(folder), default=0)
        with TemporaryFile(dir=folder, buffering=0) as probe:
            os.posix_fallocate(probe.fileno(), largest_bytes, max(1, size_bytes))
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def _sizes_bytes(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed meanwhile
                yield entry.stat().st_size


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Its own name and its parents' may be as new; not all of them are ours to open.

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
