"""Making the names of files durable: syncing a file does not sync its name."""

import errno
import os
from pathlib import Path

from relay.errors import StoreFailed

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM})
_NOT_KEPT = frozenset({errno.EINVAL, errno.EROFS, errno.ENOTSUP})
"""What a folder says that cannot be synced as it holds nothing that could be lost."""


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
