"""Space set aside on the data directory's disk, given up when the disk runs short.

A full disk stops deletes too: SQLite needs room to log them. Without a reserve, a relay on a
full disk could not even note what it delivers, so it could neither take events nor drain.
"""

import os
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

RESERVE_NAME = "relay.reserve"

RESERVE_BYTES = 32 * 1024 * 1024
"""Twice the write-ahead log between two checkpoints: it may grow, and the database with it."""

SHARE = 16
"""On a small disk the reserve is at most this part of it."""


class Reserve:
    """The file that holds the space.

    Attributes:
        free_bytes: What was free at the last look, the reserve not counted.
    """

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._file = folder / RESERVE_NAME
        self._min_free_bytes = min_free_bytes
        self.free_bytes = 0

    @property
    def is_short(self) -> bool:
        """Whether less was free at the last look than relay is to leave free."""
        return self.free_bytes < self._min_free_bytes

    def look(self) -> None:
        """Measure the free space; give the reserve up or take it again accordingly."""
        space = os.statvfs(self._folder)
        self.free_bytes = space.f_bavail * space.f_frsize
        size_bytes = min(RESERVE_BYTES, space.f_blocks * space.f_frsize // SHARE)
        if self.is_short:
            self.give_up()
        elif self.free_bytes > self._min_free_bytes + 2 * size_bytes and not self._file.exists():
            self._take(size_bytes)

    def give_up(self) -> None:
        """Leave the space to the database."""
        with suppress(FileNotFoundError):
            self._file.unlink()
            log.warning("reserve.given_up", free_bytes=self.free_bytes)

    def _take(self, size_bytes: int) -> None:
        handle = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, max(size_bytes, 1))
        except OSError:  # somebody was faster, or the file system cannot set space aside
            self._file.unlink()
        finally:
            os.close(handle)
