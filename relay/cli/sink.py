"""Where commands write JSON: standard output, or a file that is whole or not there."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from relay.cli.failure import CommandFailed

OWNER_ONLY: Final = 0o600
"""An export holds users' ids."""


class Sink:
    """Where JSON goes, item by item: a line each, or the elements of one array."""

    def __init__(self, file: BinaryIO, *, is_array: bool = False) -> None:
        self._file = file
        self._is_array = is_array
        self._is_begun = False

    def add(self, item: bytes) -> None:
        """Write one item."""
        if self._is_array:
            self._file.write(b",\n" if self._is_begun else b"[\n")
        self._file.write(item if self._is_array else item + b"\n")
        self._is_begun = True

    def end(self) -> None:
        """Write what follows the last item."""
        if self._is_array:
            self._file.write(b"\n]\n" if self._is_begun else b"[]\n")
        self._file.flush()


@contextmanager
def open_sink(path: Path | None, *, is_array: bool = False) -> Iterator[Sink]:
    """Yield standard output or a new file for the owner alone; a failed file is removed.

    Raises:
        CommandFailed: If the file exists.
    """
    if path is None:
        sink = Sink(sys.stdout.buffer, is_array=is_array)
        yield sink
        sink.end()
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
    except FileExistsError as error:
        raise CommandFailed(f"{path} exists already; name a new file") from error
    try:
        with os.fdopen(handle, "wb") as file:
            sink = Sink(file, is_array=is_array)
            yield sink
            sink.end()
    except BaseException:
        path.unlink()  # half an export must not pass for a whole one
        raise
