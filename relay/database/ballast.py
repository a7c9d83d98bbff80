"""Space set aside on the data directory's disk, for the day it is full.

A full disk stops deletes too: SQLite needs room to log them. Without a ballast, a relay on a
full disk could not even note what it delivers, so it could neither take events nor drain. The
ballast is given up in parts, each only when the database has no byte left, because whoever
filled the disk may fill it again.

What is free is what the file system says, and what the database found: of a quota or a limit the
file system's figures may know nothing; having run out, relay has room again once it could take
a part.
"""

import os
from pathlib import Path

import structlog

from relay.database.disk import has_room
from relay.errors import StoreFull

log = structlog.get_logger(__name__)

BALLAST_NAME = "relay.reserve"

BALLAST_BYTES = 32 * 1024 * 1024
"""Twice the write-ahead log between two checkpoints: it may grow, and the database with it."""

SHARE = 4
"""On a small disk the ballast is at most this part of it."""

PARTS = 4

REST_LOOKS = 20
"""Looks between two attempts to take a part that cannot be had: each disturbs the database."""


class BallastFile:
    """The file that holds the space.

    Attributes:
        min_free_bytes: What relay is to leave free.
        free_bytes: What was free at the last look, the ballast not counted.
    """

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._file = folder / BALLAST_NAME
        self.min_free_bytes = min_free_bytes
        self._whole_bytes = 0
        self._is_exhausted = False
        self._rest_looks = 0
        self.free_bytes = 0

    @property
    def is_short(self) -> bool:
        """Whether less was free at the last look than relay is to leave free."""
        return self._is_exhausted or self.free_bytes < self.min_free_bytes

    def check_room(self) -> None:
        """Let only events have what is left.

        Raises:
            StoreFull: While less is free than relay is to leave free.
        """
        if self._is_exhausted:
            raise StoreFull("the data directory has no room left, by its disk or by a quota")
        if self.is_short:
            raise StoreFull(
                f"only {self.free_bytes >> 20} MiB are free; they are left to the events"
            )

    def look(self) -> None:
        """Measure the free space, and set the ballast aside where there is plenty."""
        self._measure()
        if self._is_exhausted and self.free_bytes >= self.min_free_bytes:
            self._is_exhausted = not has_room(self._folder, self._part_bytes)
        missing_bytes = self._whole_bytes - self._held_bytes()
        is_plenty = self.free_bytes > self.min_free_bytes + 2 * missing_bytes
        if self._rest_looks:
            self._rest_looks -= 1
        elif missing_bytes > 0 and is_plenty and not self._is_exhausted:
            self._take()

    def prepare_opening(self) -> None:
        """Make sure that the database can be opened, which takes room of its own."""
        self.look()
        if not has_room(self._folder, self._part_bytes):
            self.make_room()

    def make_room(self) -> None:
        """Leave a part of what is left to a database that has no byte more."""
        self._is_exhausted = True
        self._give_up_part()
        self._measure()

    @property
    def _part_bytes(self) -> int:
        return max(1, self._whole_bytes // PARTS)

    def _measure(self) -> None:
        space = os.statvfs(self._folder)
        self.free_bytes = space.f_bavail * space.f_frsize
        self._whole_bytes = min(BALLAST_BYTES, space.f_blocks * space.f_frsize // SHARE)

    def _give_up_part(self) -> None:
        held_bytes = self._held_bytes()
        if not held_bytes:
            return
        left_bytes = max(0, held_bytes - self._part_bytes)
        try:
            os.truncate(self._file, left_bytes)
        except OSError:  # a file system that writes elsewhere needs room to cut a file
            self._file.unlink()
            left_bytes = 0
        log.warning("reserve.given_up", left_bytes=left_bytes)

    def _held_bytes(self) -> int:
        try:
            return self._file.stat().st_size
        except FileNotFoundError:
            return 0

    def _take(self) -> None:
        """Take what is missing, part by part, as far as it can be had."""
        while (held_bytes := self._held_bytes()) < self._whole_bytes:
            if not self._grow(held_bytes, min(held_bytes + self._part_bytes, self._whole_bytes)):
                self._rest_looks = REST_LOOKS
                return

    def _grow(self, held_bytes: int, wanted_bytes: int) -> bool:
        """Hold more; False, with what was held, if it cannot be had."""
        handle = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, held_bytes, wanted_bytes - held_bytes)
        except OSError:  # somebody was faster, a quota, or it cannot be set aside here
            os.ftruncate(handle, held_bytes)
            return False
        finally:
            os.close(handle)
        return True
