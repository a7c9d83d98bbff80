"""From a file of OneSignal's CSV export to the directory: read, sort, apply part by part.

A file is read to its end and checked before any of it is applied.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from relay.clock import Clock
from relay.errors import Conflict, FileRejected
from relay.onesignal.export_file import SubscriptionRow, SubscriptionsFile
from relay.segments.directory import ExportScope
from relay.segments.sorting import SortedRows, open_sorting, sorting_path
from relay.segments.store import Segments

log = structlog.get_logger(__name__)

PART_ROWS = 20_000
"""Subscriptions applied in one transaction."""

MAX_ID_CHARACTERS = 1_024


class ImportReport(NamedTuple):
    """The contents of a file.

    Attributes:
        rows: Subscriptions in it.
        users: Users with an External ID.
        anonymous: Subscriptions without one.
        broken_rows: Rows without a usable subscription id.
    """

    rows: int
    users: int
    anonymous: int
    broken_rows: int


class Importer:
    """Imports export files into the directory, one at a time per app."""

    def __init__(
        self,
        segments: Segments,
        scratch: Path,
        clock: Clock,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an importer that sorts in the folder `scratch`.

        `check_room` raises `StoreFull` while free disk space is reserved for events.
        """
        self._check_room = check_room
        self._segments = segments
        self._scratch = scratch
        self._clock = clock
        self._busy: set[str] = set()

    async def run(
        self, app: str, chunks: AsyncIterator[bytes], *, replace: bool = False
    ) -> ImportReport:
        """Import a file that adds and updates, or that replaces the directory.

        Raises:
            FileRejected: If it is no such file or not whole; nothing of it is applied.
            Conflict: If another file of the app is being imported.
            StoreError: If the disk fails or is full; parts applied so far stay, and are consistent.
        """
        scope = ExportScope(self._clock.now_ms(), is_complete=replace, drops_users=replace)
        return await self.apply(app, chunks, scope)

    async def apply(
        self, app: str, chunks: AsyncIterator[bytes], scope: ExportScope
    ) -> ImportReport:
        """Import a file of a given scope; raises like `run`."""
        if app in self._busy:
            raise Conflict(f"another file of {app} is being read; try again when it is done")
        self._busy.add(app)
        try:
            async with open_sorting(sorting_path(self._scratch, f"app-{app}")) as scratch:
                return await self._apply(app, chunks, scope, SortedRows(scratch))
        finally:
            self._busy.discard(app)

    async def _apply(
        self, app: str, chunks: AsyncIterator[bytes], scope: ExportScope, rows: SortedRows
    ) -> ImportReport:
        number = self._segments.cohorts.number(app)
        file, anonymous = await self._read(number, chunks, rows)
        # A plain file proves its end by a line break only; one cut there would drop users.
        if scope.is_complete and file.ends_mid_line:
            detail = "The last line has no end, so it may be cut; add a line break if it is whole."
            raise FileRejected("truncated", detail)
        users = await rows.sort()
        report = ImportReport(file.rows, users, anonymous, file.broken_rows)
        if (
            scope.is_complete
            and not users
            and (await self._segments.directory.counts(number)).users
        ):
            raise FileRejected("no_users", "The file names no user, but some are known.")
        directory = self._segments.directory
        async for piece in rows.pieces(PART_ROWS):
            self._check_room()
            await directory.apply_part(number, piece, scope, self._clock.now_ms())
        await directory.finish_export(number, scope, self._clock.now_ms())
        log.info("directory.imported", app=app, is_whole=scope.is_complete, **report._asdict())
        return report

    async def _read(
        self, number: int, chunks: AsyncIterator[bytes], rows: SortedRows
    ) -> tuple[SubscriptionsFile, int]:
        file = SubscriptionsFile()
        anonymous = 0
        async for chunk in chunks:
            self._check_room()
            for some in file.feed(chunk):
                anonymous += await self._add(number, some, rows)
        anonymous += await self._add(number, file.finish(), rows)
        return file, anonymous

    async def _add(self, number: int, some: Sequence[SubscriptionRow], rows: SortedRows) -> int:
        """Add the rows that name a user to the sort; return how many name none."""
        forgotten = self._segments.forgotten
        named = [
            (row.external_id, row.id, row.type, int(row.is_subscribed))
            for row in some
            if row.external_id
        ]
        if forgotten:
            named = [row for row in named if (number, row[0]) not in forgotten]
        await rows.add(named)
        return sum(not row.external_id for row in some)
