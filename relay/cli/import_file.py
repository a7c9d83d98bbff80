"""Hands OneSignal's export to the directory: to the daemon's if one runs, else to the file's."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

import anyio
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from relay.cli.admin_api import open_admin_api, path_of
from relay.cli.reach import Place, take_place
from relay.cli.segment_reach import open_own_segments
from relay.clock import SystemClock
from relay.directory.importer import Importer, ImportReport
from relay.http.admin.segment_schemas import ImportAnswer
from relay.settings import Settings

PIECE_BYTES: Final = 1 << 16


async def import_file(settings: Settings, app: str, file: Path, *, replace: bool) -> ImportReport:
    """Take an export into an app's directory.

    Args:
        settings: The configuration.
        app: Whose directory.
        file: CSV, plain or compressed.
        replace: Whether the file is the whole truth.

    Raises:
        FileRejected: If the file is not what it should be; nothing of it is applied then.
        CommandFailed: If the daemon refuses it, or holds the data directory and does not answer.
        StoreError: If the segment table does not serve.
    """
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(open_admin_api(settings))
        place = await take_place(settings, api, stack, None)
        size_bytes = (await anyio.Path(file).stat()).st_size
        pieces = _read(file, stack.enter_context(_progress(size_bytes)))
        if place is Place.DAEMON:
            query = {"replace": "true"} if replace else {}
            path = path_of("directory", app, "import")
            answer = await api.send(path, ImportAnswer, pieces, query)
            return ImportReport(answer.rows, answer.users, answer.anonymous, answer.broken_rows)
        segments = await stack.enter_async_context(open_own_segments(settings, settings.data_dir))
        imports = Importer(segments, settings.data_dir, SystemClock())
        return await imports.run(app, pieces, replace=replace)


async def _read(file: Path, read: Callable[[int], None]) -> AsyncIterator[bytes]:
    async with await anyio.open_file(file, "rb") as source:
        while piece := await source.read(PIECE_BYTES):
            yield piece
            read(len(piece))


@contextmanager
def _progress(size_bytes: int) -> Iterator[Callable[[int], None]]:
    """Yield what moves a progress bar on standard error; silent where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=size_bytes)

        def read(number_bytes: int) -> None:
            progress.advance(task, number_bytes)
            if progress.finished:
                progress.update(task, description="applying")

        yield read
