"""One database file with group commit: many changes share one transaction and one sync.

Changes queue for the writer. The writer takes the whole queue, runs it in one transaction and
answers every change after the sync. So a slow sync is paid once for all of them, and a change
waits for at most the group before its own. Reads have a connection of their own.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio
from anyio.abc import TaskStatus

from relay.database.connection import open_connection
from relay.database.counters_sidecar import CountersSidecar
from relay.database.disk import sync_folder
from relay.database.errors import translate
from relay.database.migrations import migrate
from relay.database.pending_write import Change, PendingWrite
from relay.errors import StoreDamaged, StoreFailed, StoreFull, StoreLocked
from relay.heartbeat import Heartbeat

Result = TypeVar("Result")
Row = tuple[Any, ...]  # what a column holds is known by the query, not by Python

IDLE_S = 5.0
"""Longest time between two heartbeats of an idle writer."""

CHECKPOINT_PAGES = 2_000
"""Log pages after which the log is written back: 8 MB. Fewer would write a table's last page, which
changes with every commit, more often; more would make the pause longer than milliseconds."""

PAGES_PER_COMMIT = 4
ROWS_PER_PAGE = 4
"""Estimates of the log's growth; SQLite does not tell its length."""


class Executor(Protocol):
    """What the engine needs of a connection: it runs whole functions, one after the other."""

    @property
    def total_changes(self) -> int:
        """Rows changed since it was opened."""

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work`; cancelling the caller does not stop it."""


class Database:
    """A SQLite file with one writer and one reader."""

    def __init__(
        self,
        writer: Executor,
        reader: Executor,
        heartbeat: Heartbeat,
        make_room: Callable[[], None] = lambda: None,
        sidecar: CountersSidecar | None = None,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder
        self._heartbeat = heartbeat
        self._make_room = make_room
        self._sidecar = sidecar
        self._writer = writer
        self._reader = reader
        self._write_queue: list[PendingWrite[object]] = []
        self._wakeup = anyio.Event()
        self._failure: StoreFailed | None = None
        self._commits = 0
        self._rows_before = 0

    async def read(self, query: Change[Result]) -> Result:
        """Run `query` on the reading connection and return what it returns.

        Raises:
            StoreFailed: If the file cannot be read. Damage ends the process, so that the next
                start recovers the database.
        """
        try:
            return await self._reader.run(query)
        except sqlite3.Error as error:
            failure = translate(error)
            if isinstance(failure, StoreDamaged):
                # The writer must stop as well: what it would commit may rest on damaged rows.
                self._fail(failure)
                self._wakeup.set()
            raise failure from error

    def submit(
        self, change: Change[Result], *, on_commit: Callable[[Result], None] | None = None
    ) -> PendingWrite[Result]:
        """Queue `change` and return its pending write.

        Args:
            change: Runs in a transaction, on the writer's thread.
            on_commit: Called on the event loop after the sync and before the next group begins,
                so that memory never runs ahead of the disk.

        Raises:
            StoreFailed: If the disk failed before; the process must end.
        """
        if self._failure:
            raise StoreFailed(str(self._failure)) from self._failure
        pending = PendingWrite(change, on_commit)
        self._write_queue.append(pending)  # type: ignore[arg-type]  # the queue mixes result types
        self._wakeup.set()
        return pending

    async def write(self, change: Change[Result]) -> Result:
        """Run `change` in a transaction and return its result after the sync.

        Raises:
            StoreFull: If there was no room; nothing of the change is kept.
            StoreFailed: If the disk failed; nothing may be acknowledged.
        """
        return await self.submit(change).wait()

    async def execute(self, sql: str, parameters: Mapping[str, object]) -> int:
        """Run one statement like `write` and return how many rows it changed."""
        return await self.write(lambda raw: raw.execute(sql, parameters).rowcount)

    async def fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one query like `read` and return its rows."""
        return await self.read(lambda raw: raw.execute(sql, parameters).fetchall())

    async def flush(self) -> None:
        """Return once everything queued before is committed."""
        await self.write(lambda _: None)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Commit what is queued, group after group, until cancelled.

        Raises:
            StoreFailed: If a write or a sync failed. The kernel may have dropped the pages of a
                failed sync and report the next one as a success, so the process must end.
        """
        task_status.started()
        while True:
            self._heartbeat.beat(IDLE_S)
            with anyio.move_on_after(IDLE_S):
                await self._wakeup.wait()
            self._wakeup = anyio.Event()
            group, self._write_queue = self._write_queue, []
            for pending in group:
                pending.is_started = True  # before the first `await`: it may no longer grow
            if group:
                await self._commit(group)
                await self._write_log_back()
            if self._failure:
                raise self._failure

    async def _commit(
        self, group: Sequence[PendingWrite[object]], *, is_retry: bool = False
    ) -> None:
        """Commit `group` together; if that fails, each change alone."""
        try:
            results = await self._writer.run(partial(_apply, group, self._sidecar, self._folder))
        except Exception as error:  # noqa: BLE001  # raised by each pending write
            is_full = isinstance(error, StoreFull) and not isinstance(error, StoreLocked)
            if is_full and not is_retry:
                self._make_room()
                await self._checkpoint("RESTART")  # the log is then reused from its start
            # One bad change must not fail the others of its group, so each is tried alone, except
            # where that cannot help: after a failed sync, or while another process has the lock.
            is_final = isinstance(error, StoreFailed | StoreLocked) or is_retry
            if not is_final:
                for pending in group:
                    if self._failure:
                        pending.fail(self._failure)
                    else:
                        await self._commit([pending], is_retry=True)
                return
            if isinstance(error, StoreFailed):
                self._fail(error)
            for pending in group:
                pending.fail(self._failure or error)
            return
        for pending, result in zip(group, results, strict=True):
            pending.resolve(result)

    async def _write_log_back(self) -> None:
        """Checkpoint a long log, after the group's answers, so that none of them waits for it.

        SQLite's own automatic checkpoint would hide a failed sync.
        """
        self._commits += 1
        rows = self._writer.total_changes - self._rows_before
        if self._commits * PAGES_PER_COMMIT + rows // ROWS_PER_PAGE < CHECKPOINT_PAGES:
            return
        self._commits, self._rows_before = 0, self._rows_before + rows
        await self._checkpoint("PASSIVE")

    async def _checkpoint(self, mode: str) -> None:
        """Write the log back to the database, as far as there is room."""
        try:
            await self._writer.run(
                lambda raw: raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            )
        except sqlite3.Error as error:
            failure = translate(error, self._folder)
            if isinstance(failure, StoreFailed):
                self._fail(failure)
            elif not isinstance(failure, StoreFull):
                raise

    def _fail(self, error: StoreFailed) -> None:
        """Refuse everything from now on."""
        self._failure = error
        for pending in self._write_queue:
            pending.fail(error)
        self._write_queue.clear()


def _apply(
    group: Sequence[PendingWrite[object]],
    sidecar: CountersSidecar | None,
    folder: Path | None,
    raw: sqlite3.Connection,
) -> list[object]:
    """Run the changes of a group in one transaction, on the writer's thread."""
    try:
        raw.execute("BEGIN IMMEDIATE")
        results = [pending.apply(raw) for pending in group]
        record = sidecar.encode(raw) if sidecar else b""
        raw.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(raw, sidecar)
        raise translate(error, folder) from error
    except BaseException:
        _roll_back(raw, sidecar)
        raise
    if sidecar:
        sidecar.write(record)
    return results


def _roll_back(raw: sqlite3.Connection, sidecar: CountersSidecar | None) -> None:
    """Undo the open transaction, unless SQLite did so itself."""
    if sidecar:
        sidecar.on_rollback()
    if raw.in_transaction:
        with suppress(sqlite3.Error):  # the first error says more
            raw.execute("ROLLBACK")


@asynccontextmanager
async def open_database(
    path: Path,
    migrations: Sequence[str],
    heartbeat: Heartbeat,
    make_room: Callable[[], None] = lambda: None,
    sidecar: CountersSidecar | None = None,
) -> AsyncIterator[Database]:
    """Open `path`, migrated to the newest schema; `Database.run` must then be started.

    Args:
        path: The file.
        migrations: Its schema.
        heartbeat: The writer's.
        make_room: Called when the disk is full; may give up space.
        sidecar: Written after each commit.

    Raises:
        SchemaTooNew: If a later relay wrote the file.
        StoreError: If the file cannot be opened or is no database.
    """
    async with AsyncExitStack() as stack:
        try:
            writer = await stack.enter_async_context(open_connection(path, writable=True))
            await writer.run(partial(migrate, scripts=migrations))
            reader = await stack.enter_async_context(open_connection(path, writable=False))
        except sqlite3.Error as error:
            raise StoreFailed(f"{path.name} cannot be opened: {error}") from error
        sync_folder(path.parent)  # a new file's name is not durable before
        if sidecar:
            stack.callback(sidecar.close)
        yield Database(writer, reader, heartbeat, make_room, sidecar, path.parent)
