"""JSON output of commands: to standard output, or to a new file that is complete or absent."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import orjson
from pydantic import BaseModel

from relay.cli.client import Line
from relay.cli.data_access import SEGMENTS, open_client
from relay.cli.exit_codes import run
from relay.cli.output import line_of
from relay.errors import CommandFailed
from relay.http.admin.context import SegmentsContext
from relay.http.admin.operations import AnyOperation
from relay.settings import Settings

OWNER_ONLY: Final = 0o600
"""An export holds users' ids."""


class JsonWriter:
    """Writes JSON values one after the other: a line each, or as elements of one array."""

    def __init__(self, file: BinaryIO, *, is_array: bool = False) -> None:
        self._file = file
        self._is_array = is_array
        self._is_empty = True

    def add(self, item: BaseModel) -> None:
        """Write one object."""
        self.add_raw(item.model_dump_json().encode())

    def add_raw(self, line: bytes) -> None:
        """Write one value that is encoded already."""
        if self._is_array:
            self._file.write(b"[\n" if self._is_empty else b",\n")
        self._file.write(line if self._is_array else line + b"\n")
        self._is_empty = False

    def end(self) -> None:
        """Write what follows the last item."""
        if self._is_array:
            self._file.write(b"[]\n" if self._is_empty else b"\n]\n")
        self._file.flush()


@contextmanager
def open_json(path: Path | None, *, is_array: bool = False) -> Iterator[JsonWriter]:
    """Yield a writer to a new file, readable by its owner alone, or to standard output.

    If the block fails, the file is removed.

    Raises:
        CommandFailed: If the file exists.
    """
    if path is None:
        writer = JsonWriter(sys.stdout.buffer, is_array=is_array)
        yield writer
        writer.end()
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
    except FileExistsError as error:
        raise CommandFailed(f"{path} exists already; name a new file") from error
    try:
        with os.fdopen(handle, "wb") as file:
            writer = JsonWriter(file, is_array=is_array)
            yield writer
            writer.end()
    except BaseException:
        path.unlink()  # half an export must not pass for a complete one
        raise


def print_json_line(item: BaseModel) -> None:
    """Print one object as a line of JSON."""
    with open_json(None) as writer:
        writer.add(item)


def print_stream(
    settings: Settings,
    operation: AnyOperation[SegmentsContext],
    given: BaseModel,
    path: Mapping[str, str],
    text: Callable[[Line], str],
    *,
    as_json: bool,
) -> None:
    """Print the stream of an operation, an object a line.

    Args:
        settings: The configuration.
        operation: Opens the stream.
        given: Its input.
        path: The variables of its path.
        text: Turns an object into a line for people.
        as_json: Whether to print NDJSON instead.
    """

    async def stream(writer: JsonWriter) -> None:
        async with (
            open_client(settings, SEGMENTS) as client,
            client.lines(operation, given, **path) as lines,
        ):
            async for line in lines:
                writer.add_raw(orjson.dumps(line) if as_json else line_of(text(line)).encode())

    with open_json(None) as writer:
        run(partial(stream, writer))


def external_id(line: Line) -> str:
    """Return the user's id of a line."""
    return str(line["external_id"])
