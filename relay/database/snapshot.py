"""Copies a database as it is at one moment, while its writer goes on.

A snapshot is one read transaction: whatever is written meanwhile, its pages stay as they are, and
the copy never starts over. The price is the writer's log, which can only grow until the snapshot
ends. A copy needs no log: its single file is the whole database.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from relay.database.connection import BUSY_TIMEOUT_MS
from relay.database.disk import sync_folder
from relay.database.errors import translate
from relay.errors import StoreFailed, StoreFull

STEP_PAGES: Final = 1_024
"""Pages copied at a time; between two steps a copy can be given up."""

MOST_DAMAGES_SHOWN: Final = 3

OWNER_ONLY: Final = 0o600
"""A database contains users' ids."""


class Snapshot:
    """A database as it was at one moment.

    Attributes:
        name: Of its file.
        size_bytes: What a copy of it takes.
    """

    def __init__(self, raw: sqlite3.Connection, name: str) -> None:
        self._raw = raw
        self.name = name
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        (self._page_bytes,) = raw.execute("PRAGMA page_size").fetchone()
        self.size_bytes: int = pages * self._page_bytes

    def copy_to(self, file: Path, proceed: Callable[[int], None]) -> None:
        """Write a synced copy and end the snapshot; `check_copy` says whether it is whole.

        Args:
            file: Created, readable by its owner alone; must not exist.
            proceed: Called after each step with the bytes copied so far; may raise to give up.

        Raises:
            StoreFull: If there is no room for it.
            StoreFailed: If a disk failed, or this database cannot be read.
            OSError: If the file cannot be created.
        """
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        handle = os.open(file, flags, OWNER_ONLY)

        def report(_: int, pages_left: int, pages: int) -> None:
            proceed((pages - pages_left) * self._page_bytes)
            os.fdatasync(handle)  # in small amounts, so that the daemon's own syncs stay short

        try:
            with closing(sqlite3.connect(file, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous=OFF")  # it is synced here
                self._raw.backup(copy, pages=STEP_PAGES, progress=report)
                self._raw.execute("COMMIT")
                copy.execute("PRAGMA journal_mode=DELETE").fetchall()  # no log beside it
            os.fsync(handle)
        except sqlite3.Error as error:
            raise _explained(error, self.name) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StoreFull(f"{self.name} cannot be copied: {error.strerror}") from error
        finally:
            os.close(handle)


@contextmanager
def open_snapshot(path: Path) -> Iterator[Snapshot]:
    """Keep a database as it is now while the block runs; its pages are only read.

    A daemon may have it open, start or end meanwhile. Where the log and its index are missing,
    SQLite creates empty ones.

    Raises:
        StoreFailed: If it cannot be read.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    timeout_s = BUSY_TIMEOUT_MS / 1000
    try:
        raw = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout_s)
    except sqlite3.Error as error:
        raise _explained(error, path.name) from error
    with closing(raw):
        try:
            raw.execute("BEGIN")
            raw.execute("PRAGMA user_version").fetchone()  # the first read fixes the moment
            snapshot = Snapshot(raw, path.name)
        except sqlite3.Error as error:
            raise _explained(error, path.name) from error
        yield snapshot


def check_copy(file: Path, name: str) -> None:
    """Make sure that a copy is whole.

    Args:
        file: The copy.
        name: Of the copied database.

    Raises:
        StoreFailed: If it is not: the database is damaged, or a disk failed.
    """
    uri = f"{file.absolute().as_uri()}?immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as copy:
            found = copy.execute(f"PRAGMA quick_check({MOST_DAMAGES_SHOWN})").fetchall()
    except sqlite3.Error as error:
        raise _explained(error, name) from error
    if found != [("ok",)]:
        damages = "; ".join(text.replace("\n", " ") for (text,) in found)
        raise StoreFailed(f"{name} is damaged: {damages}")


def publish_copies(copies: dict[Path, Path]) -> None:
    """Give synced copies their names, durably: all of them, or none.

    Args:
        copies: The name of each copy, by the file it was written to.

    Raises:
        OSError: If a file cannot be renamed.
    """
    named: list[Path] = []
    try:
        for file, name in copies.items():
            file.rename(name)
            named.append(name)
        for folder in {name.parent for name in named}:
            sync_folder(folder)
    except BaseException:
        for name in named:
            name.unlink(missing_ok=True)
        raise


def _explained(error: sqlite3.Error, name: str) -> Exception:
    """Return relay's error for SQLite's, with the database's name."""
    known = translate(error)
    if known is error:
        return error
    is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError
    )
    fate = "is damaged" if is_damaged else "cannot be copied"
    return type(known)(f"{name} {fate}: {error}")
