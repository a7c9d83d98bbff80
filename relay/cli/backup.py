"""`relay backup`: both databases as they are at one moment, beside a running daemon or without."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.filesize import decimal

from relay.cli.data_access import DATABASES
from relay.cli.options import Configured
from relay.cli.output import instant, output, print_fields, progress_bar
from relay.clock import SystemClock
from relay.database.disk import COMPANIONS, remove_database
from relay.database.snapshot import (
    Snapshot,
    check_copy,
    open_snapshot,
    publish_copies,
)
from relay.errors import CommandFailed, StoreFull
from relay.settings import Settings

GENTLENESS: Final = 10
"""Of this process, so that the daemon goes first. Unit: nice levels."""

UNFINISHED: Final = ".partial"
"""Suffix of a copy until it is complete."""

Proceed = Callable[[int], None]


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is missing.")],
    *,
    settings: Configured,
) -> None:
    """Copy the databases into a folder, whole and of one moment, while the daemon goes on.

    To restore, put the files into an empty data directory and start the daemon.
    """
    os.nice(GENTLENESS)
    # The segment table first: who is forgotten in it is then gone from the outbox, or is not
    # forgotten in either.
    names = [name for name in reversed(DATABASES) if (settings.data_dir / name).exists()]
    if not names:
        missing = " and no ".join(DATABASES)
        raise CommandFailed(f"there is nothing to back up: {settings.data_dir} holds no {missing}")
    with _prepared(folder, settings.data_dir), ExitStack() as stack:
        sources = [settings.data_dir / name for name in names]
        snapshots = [stack.enter_context(open_snapshot(source)) for source in sources]
        snapshots.reverse()  # the busier log is held for the shorter time
        taken_at = SystemClock().now_ms()
        total_bytes = sum(snapshot.size_bytes for snapshot in snapshots)
        space = FreeSpace(folder, settings)
        space.check(total_bytes)
        _copy(folder, snapshots, total_bytes, space)
    sizes = {snapshot.name: decimal(snapshot.size_bytes) for snapshot in snapshots}
    print_fields(dict(sorted(sizes.items())))
    output().print(f"whole, as of {instant(taken_at)}, in {folder}", soft_wrap=True)


class FreeSpace:
    """Free space on two disks: the copy needs some, and the daemon must keep some.

    The daemon's log cannot shrink while a snapshot is held. A backup is given up before events
    would be refused because of it.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._data_dir = settings.data_dir
        kept_bytes = settings.outbox.min_free_bytes
        self._kept_bytes = min(kept_bytes, _free_bytes(settings.data_dir) // 2)
        self._is_shared = folder.stat().st_dev == settings.data_dir.stat().st_dev

    def check(self, needed_bytes: int) -> None:
        """Return if a copy fits.

        Raises:
            CommandFailed: If it does not, or would take the space kept for events.
        """
        kept_bytes = self._kept_bytes if self._is_shared else 0
        free_bytes = _free_bytes(self._folder)
        if free_bytes < needed_bytes + kept_bytes:
            kept = f" beside the {decimal(kept_bytes)} kept for events" if kept_bytes else ""
            raise CommandFailed(
                f"no room in {self._folder}: the backup takes {decimal(needed_bytes)}{kept}, "
                f"{decimal(free_bytes)} are free"
            )

    def watch(self) -> None:
        """Return if the daemon still has enough space.

        Raises:
            CommandFailed: If its disk has less than is kept for events.
        """
        if _free_bytes(self._data_dir) < self._kept_bytes:
            raise CommandFailed(
                f"given up, and nothing was kept: the daemon's log grows while a backup is made, "
                f"and less than {decimal(self._kept_bytes)} are free in {self._data_dir}; make "
                "room there, or name a folder on a faster disk"
            )


def _copy(folder: Path, snapshots: list[Snapshot], total_bytes: int, space: FreeSpace) -> None:
    copies = {found: folder / f"{found.name}{UNFINISHED}" for found in snapshots}
    with ExitStack() as undo, progress_bar("copying", total_bytes) as proceed:
        copied_bytes = 0
        for snapshot, file in copies.items():
            undo.callback(remove_database, file)
            remove_database(file)  # one that a killed backup left
            try:
                snapshot.copy_to(file, _with_watch(space, proceed, copied_bytes))
            except StoreFull as error:
                raise CommandFailed(f"no room is left in {folder}; nothing was kept") from error
            copied_bytes += snapshot.size_bytes
        for snapshot, file in copies.items():
            check_copy(file, snapshot.name)
        publish_copies({file: folder / snapshot.name for snapshot, file in copies.items()})


def _with_watch(space: FreeSpace, proceed: Proceed, before_bytes: int) -> Proceed:
    def report(copied_bytes: int) -> None:
        space.watch()
        proceed(before_bytes + copied_bytes)

    return report


@contextmanager
def _prepared(folder: Path, data_dir: Path) -> Iterator[None]:
    """Hold a folder for this process's backup while the block runs.

    A folder made here is removed again if the block fails.
    """
    if folder.resolve() == data_dir.resolve():
        raise CommandFailed(f"{folder} is the data directory; name another folder")
    is_new = not os.path.lexists(folder)
    if not is_new and not folder.is_dir():
        raise CommandFailed(f"{folder} is no folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (database + tail for database in DATABASES for tail in ("", *COMPANIONS)):
        if os.path.lexists(folder / name):
            raise CommandFailed(f"{folder / name} exists already; name an empty folder")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandFailed(f"another backup is being written into {folder}") from error
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):  # not empty: another process has put something there
                folder.rmdir()
        raise
    finally:
        os.close(handle)


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
