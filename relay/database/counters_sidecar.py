"""The last committed counters, in a file beside the database: they show that commits are missing.

SQLite reads a write-ahead log up to the first damaged frame and treats the rest as never written;
a log that was deleted leaves no trace at all. The counts inside the database cannot reveal either,
because they went missing with the rows. So after each commit the counters are also written here.

The file is not synced: after a power cut it may be older than the database, never newer.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from zlib import crc32

import orjson

SidecarRecord: TypeAlias = dict[str, Any]  # each store knows what its own record holds

SUFFIX: Final = ".tally"

_MAGIC: Final = b"relay tally 1"


class CountersSidecar:
    """Writes a store's counters after each commit.

    Args:
        path: The file; created at the first write.
        read: Reads the record, inside the transaction that changed it.
        on_rollback: Called when that transaction was undone, so that `read` forgets what it cached.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[sqlite3.Connection], SidecarRecord],
        on_rollback: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._read = read
        self.on_rollback = on_rollback
        self._file: int | None = None
        self._written = b""

    def encode(self, raw: sqlite3.Connection) -> bytes:
        """Return the record of a transaction that is about to commit."""
        return orjson.dumps(self._read(raw))

    def write(self, record: bytes) -> None:
        """Replace the record, after its transaction is committed and synced."""
        if record == self._written:
            return
        with suppress(OSError):  # an older record is still true: it only proves less
            if self._file is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            head = b"%b %08x %d\n" % (_MAGIC, crc32(record), len(record))
            # One write over the old record: a rename would need a sync per commit to be safe, and
            # the checksum already turns a torn write into "no record".
            os.pwrite(self._file, head + record, 0)
            self._written = record

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def sidecar_path(database: Path) -> Path:
    """Return the path of a database's sidecar."""
    return database.with_name(f"{database.name}{SUFFIX}")


def load_record(database: Path) -> SidecarRecord:
    """Return the last record written for a database; empty if none is intact."""
    try:
        text = sidecar_path(database).read_bytes()
    except OSError:
        return {}
    head, _, rest = text.partition(b"\n")
    before, _, numbers = head.partition(_MAGIC + b" ")
    try:
        checksum, length = numbers.split()
        record = rest[: int(length)]  # a longer, older record may stand behind it
        if before or crc32(record) != int(checksum, 16) or len(record) != int(length):
            return {}
    except ValueError:
        return {}
    loaded: SidecarRecord = orjson.loads(record)
    return loaded
