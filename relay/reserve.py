"""Space set aside on the data directory's disk, for the day it is full.

A full disk stops deletes too: SQLite needs room to log them. Without a reserve, a relay on a
full disk could not even note what it delivers, so it could neither take events nor drain. The
reserve is given up in parts, each only when the database has no byte left, because whoever
filled the disk may fill it again.
"""

import os
from contextlib import suppress
from pathlib import Path

import structlog

from relay.errors import StoreFull

log = structlog.get_logger(__name__)

RESERVE_NAME = "relay.reserve"

RESERVE_BYTES = 32 * 1024 * 1024
"""Twice the write-ahead log between two checkpoints: it may grow, and the database with it."""

SHARE = 4
"""On a small disk the reserve is at most this part of it."""

PARTS = 4


class Reserve:
    """The file that holds the space.

    Attributes:
        free_bytes: What was free at the last look, the reserve not counted.
    """

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._file = folder / RESERVE_NAME
        self._min_free_bytes = min_free_bytes
        self._whole_bytes = 0
        self.free_bytes = 0

    @property
    def is_short(self) -> bool:
        """Whether less was free at the last look than relay is to leave free."""
        return self.free_bytes < self._min_free_bytes

    def check_room(self) -> None:
        """Let only events have what is left.

        Raises:
            StoreFull: While less is free than relay is to leave free.
        """
        if self.is_short:
            raise StoreFull(
                f"only {self.free_bytes >> 20} MiB are free; they are left to the events"
            )

    def look(self) -> None:
        """Measure the free space, and set the reserve aside where there is plenty."""
        space = os.statvfs(self._folder)
        self.free_bytes = space.f_bavail * space.f_frsize
        self._whole_bytes = min(RESERVE_BYTES, space.f_blocks * space.f_frsize // SHARE)
        missing_bytes = self._whole_bytes - self._held_bytes()
        if missing_bytes > 0 and self.free_bytes > self._min_free_bytes + 2 * missing_bytes:
            self._take()

    def prepare_opening(self) -> None:
        """Make sure that the database can be opened, which takes room of its own."""
        self.look()
        if self.free_bytes < self._whole_bytes // PARTS:
            self._give_up_part()

    def make_room(self) -> None:
        """Leave a part of what is left to a database that has no byte more."""
        self._give_up_part()
        self.look()

    def _give_up_part(self) -> None:
        held_bytes = self._held_bytes()
        if not held_bytes:
            return
        left_bytes = max(0, held_bytes - max(1, self._whole_bytes // PARTS))
        os.truncate(self._file, left_bytes)
        log.warning("reserve.given_up", left_bytes=left_bytes)

    def _held_bytes(self) -> int:
        try:
            return self._file.stat().st_size
        except FileNotFoundError:
            return 0

    def _take(self) -> None:
        handle = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._whole_bytes)
        except OSError:  # somebody was faster, or the file system cannot set space aside
            with suppress(FileNotFoundError):
                self._file.unlink()
        finally:
            os.close(handle)
