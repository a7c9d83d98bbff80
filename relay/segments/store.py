"""The segment table as a whole: opened once, handed on in parts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from relay.database.counters_sidecar import CountersSidecar, sidecar_path
from relay.database.database import Database, open_database
from relay.database.recovery.recover import mark_unclean_on_error, recover
from relay.database.stream import RowStreams
from relay.heartbeat import Heartbeat
from relay.segments.cohorts import AppRules, Cohorts
from relay.segments.directory import Directory
from relay.segments.download_log import DownloadLog
from relay.segments.erasure import Erasure, ForgottenUsers
from relay.segments.read_model import ReadModel
from relay.segments.recovery import RECOVERY_SPEC, SidecarReader
from relay.segments.retention import Retention
from relay.segments.review import Review
from relay.segments.sorting import remove_leftovers
from relay.segments.sql import MIGRATIONS, SQL
from relay.segments.staging import StagedList
from relay.segments.webhook import WebhookMessages

DATABASE_NAME = "segments.db"


@dataclass(frozen=True, slots=True)
class Segments:
    """An open segment table, in parts.

    Attributes:
        database: The engine; its `run` commits what the parts write.
        cohorts: Apps and cohorts.
        directory: Users that OneSignal knows.
        downloads: Which exports were asked for.
        webhook: Applies Amplitude's cohort messages.
        review: Decisions about held runs, and rollbacks.
        forgotten: Users that are kept out.
        erasure: Makes a user one of those.
        read_model: Pages and streams of everything above.
        retention: Removes in time what is no longer needed.
    """

    database: Database
    cohorts: Cohorts
    directory: Directory
    downloads: DownloadLog
    webhook: WebhookMessages
    review: Review
    forgotten: ForgottenUsers
    erasure: Erasure
    read_model: ReadModel
    retention: Retention

    def stage(self, cohort: int, run: int) -> StagedList:
        """Return the list of a run, to be filled and published."""
        return StagedList(self.database, cohort, run)


@asynccontextmanager
async def open_segments(
    folder: Path,
    apps: Mapping[str, AppRules],
    *,
    now_ms: int,
    heartbeat: Heartbeat,
) -> AsyncIterator[Segments]:
    """Open the segment table of a folder this process has locked, with its writer running.

    A damaged database is set aside first, and what can be read of it is saved.

    Args:
        folder: The data directory.
        apps: What the settings say of each app's segments.
        now_ms: The time; segments that follow changed settings are stamped with it.
        heartbeat: The writer's. On a full disk no room is made: what is set aside is
            the outbox's.

    Raises:
        StoreError: If the database cannot be used.
    """
    path = (folder / DATABASE_NAME).resolve()  # SQLite puts the log beside the file itself
    remove_leftovers(folder)
    await anyio.to_thread.run_sync(partial(recover, path, RECOVERY_SPEC, now_ms))
    reader = SidecarReader()
    sidecar = CountersSidecar(sidecar_path(path), reader, reader.clear)
    with mark_unclean_on_error(path):
        async with (
            open_database(path, MIGRATIONS, heartbeat, sidecar=sidecar) as database,
            anyio.create_task_group() as group,
        ):
            await group.start(database.run, name="segments writer")
            yield await _assemble(database, path, apps, now_ms)
            await database.flush()
            group.cancel_scope.cancel()


async def _assemble(
    database: Database, path: Path, apps: Mapping[str, AppRules], now_ms: int
) -> Segments:
    for table in ("make_touched", "make_incoming"):
        await database.execute(SQL[table], {})
    forgotten = await ForgottenUsers.load(database)
    return Segments(
        database=database,
        cohorts=await Cohorts.load(database, apps, now_ms),
        directory=Directory(database, forgotten),
        downloads=DownloadLog(database),
        webhook=WebhookMessages(database, forgotten),
        review=Review(database),
        forgotten=forgotten,
        erasure=Erasure(database, forgotten),
        read_model=ReadModel(database, RowStreams(path)),
        retention=Retention(database),
    )
