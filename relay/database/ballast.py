"""A ballast file on the data directory's disk: space to give up on the day the disk is full.

A full disk stops deletes, too: SQLite needs room to log them. Without ballast, relay could not even
record what it delivered, so it could neither accept events nor drain. The ballast is released in
parts, each only when the database has no byte left, because whatever filled the disk may fill it
again.

The figures of the file system may know nothing of a quota or a limit. So a database that ran out
of room counts as well: from then on the disk is full until a part of the ballast can be allocated
again.
"""

import os
from pathlib import Path

import structlog

from relay.database.disk import has_room
from relay.errors import StoreFull

log = structlog.get_logger(__name__)

BALLAST_NAME = "relay.reserve"

BALLAST_BYTES = 32 * 1024 * 1024
"""Room for the write-ahead log between two checkpoints, and for the database to grow by as much."""

SHARE = 4
"""On a small disk the ballast is at most one such part of it."""

PARTS = 4

PAUSE_REFRESHES = 20
"""Calls of `refresh` between two failed attempts to allocate: each takes the last free bytes away
from the database for a moment."""


class BallastFile:
    """Holds the space, and says whether the disk is full.

    Attributes:
        min_free_bytes: Free space below which new events are refused; delivery goes on.
        free_bytes: Free space when it was last measured, without the ballast.
    """

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._file = folder / BALLAST_NAME
        self.min_free_bytes = min_free_bytes
        self._whole_bytes = 0
        self._is_exhausted = False
        self._pause_refreshes = 0
        self.free_bytes = 0

    @property
    def is_short(self) -> bool:
        """Whether the disk is full, or less is free than is to stay free."""
        return self._is_exhausted or self.free_bytes < self.min_free_bytes

    def check_room(self) -> None:
        """Refuse work that can wait while the disk is short of space.

        Raises:
            StoreFull: While `is_short`.
        """
        if self._is_exhausted:
            raise StoreFull("the data directory has no room left, by its disk or by a quota")
        if self.is_short:
            raise StoreFull(
                f"only {self.free_bytes >> 20} MiB are free; they are kept for delivery"
            )

    def refresh(self) -> None:
        """Measure the free space, and allocate missing ballast while there is plenty."""
        self._measure()
        if self._is_exhausted and self.free_bytes >= self.min_free_bytes:
            self._is_exhausted = not has_room(self._folder, self._part_bytes)
        missing_bytes = self._whole_bytes - self._held_bytes()
        # Twice, so that allocating does not itself make the disk short.
        is_plenty = self.free_bytes > self.min_free_bytes + 2 * missing_bytes
        if self._pause_refreshes:
            self._pause_refreshes -= 1
        elif missing_bytes > 0 and is_plenty and not self._is_exhausted:
            self._allocate()

    def prepare_opening(self) -> None:
        """Make sure that the database can be opened, which takes room itself."""
        self.refresh()
        if not has_room(self._folder, self._part_bytes):
            self.make_room()

    def make_room(self) -> None:
        """Release a part of the ballast to a database that has no byte left."""
        self._is_exhausted = True
        self._release_part()
        self._measure()

    @property
    def _part_bytes(self) -> int:
        return max(1, self._whole_bytes // PARTS)

    def _measure(self) -> None:
        space = os.statvfs(self._folder)
        self.free_bytes = space.f_bavail * space.f_frsize
        self._whole_bytes = min(BALLAST_BYTES, space.f_blocks * space.f_frsize // SHARE)

    def _release_part(self) -> None:
        held_bytes = self._held_bytes()
        if not held_bytes:
            return
        left_bytes = max(0, held_bytes - self._part_bytes)
        try:
            os.truncate(self._file, left_bytes)
        except OSError:  # a copy-on-write file system needs room even to truncate
            self._file.unlink()
            left_bytes = 0
        log.warning("reserve.given_up", left_bytes=left_bytes)

    def _held_bytes(self) -> int:
        try:
            return self._file.stat().st_size
        except FileNotFoundError:
            return 0

    def _allocate(self) -> None:
        """Allocate what is missing, part by part, as far as possible."""
        while (held_bytes := self._held_bytes()) < self._whole_bytes:
            if not self._grow(held_bytes, min(held_bytes + self._part_bytes, self._whole_bytes)):
                self._pause_refreshes = PAUSE_REFRESHES
                return

    def _grow(self, held_bytes: int, wanted_bytes: int) -> bool:
        """Allocate more; return False, with nothing changed, if that is impossible."""
        handle = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, held_bytes, wanted_bytes - held_bytes)
        except OSError:  # no room after all, or a file system without allocation
            os.ftruncate(handle, held_bytes)
            return False
        finally:
            os.close(handle)
        return True
