"""Where a command works: in the daemon if one runs, else on the data directory itself.

A running daemon owns its data directory, and its lock shows that it does.
"""

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Generic, TypeVar

import anyio
from pydantic import BaseModel

from relay.cli.client import Client, HttpClient, LocalClient, open_daemon_client
from relay.cli.exit_codes import run
from relay.clock import SystemClock
from relay.cohorts.webhook import CohortWebhook
from relay.daemon.policies import app_rules, event_source, guard_policy
from relay.directory.importer import Importer
from relay.errors import CommandFailed, NoDaemon, StoreBusy
from relay.heartbeat import Heartbeat
from relay.http.admin.context import AdminContext, OutboxContext, SegmentsContext, StoresContext
from relay.http.admin.operations import NoInput, Operation
from relay.http.admin.status import SHOW_STATUS
from relay.ingest.events import EventIngest, Source
from relay.observability.logs import configure_logging
from relay.outbox.store import DATABASE_NAME as OUTBOX_NAME
from relay.outbox.store import Outbox, lock_folder, open_outbox
from relay.segments.store import DATABASE_NAME as SEGMENTS_NAME
from relay.segments.store import Segments, open_segments
from relay.settings import Settings

DATABASES: Final = (OUTBOX_NAME, SEGMENTS_NAME)

PATIENCE_S: Final = 5.0
"""For another command to finish, or for a starting daemon to open its doors."""

PAUSE_S: Final = 0.1

Context = TypeVar("Context")
Input = TypeVar("Input", bound=BaseModel)
Output = TypeVar("Output", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Data(Generic[Context]):
    """The stores a command needs.

    Attributes:
        required: Name of the database without which there is nothing to see or change; `None`
            for a command that makes its databases.
        open: Opens the stores of a folder; `None` for what only a daemon has.
    """

    required: str | None
    open: Callable[[Settings, Path], AbstractAsyncContextManager[Context]] | None


@dataclass(frozen=True, kw_only=True)
class IdleApp:
    """An app none of whose loops run in this process."""

    delivery: None = None
    poller: None = None
    sync: None = None


@dataclass(frozen=True, kw_only=True)
class IdleIngestingApp(IdleApp):
    """The same, whose events can be read."""

    source: Source


@asynccontextmanager
async def open_client(settings: Settings, data: Data[Context]) -> AsyncIterator[Client[Context]]:
    """Yield a client on the data, wherever it can be reached.

    Where a required database is missing, none is made: an empty one elsewhere takes its place.

    Raises:
        CommandFailed: If the data directory is in use and no daemon answers, or is no directory.
        StoreError: If the data directory or a store cannot be used.
    """
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(open_daemon_client(settings))
        if data.open is None:
            yield daemon
            return
        folder = await _own_folder(settings, daemon, stack, data.required)
        if folder is None:
            yield daemon
            return
        # What stores log is meant for the daemon's log: people at a terminal see warnings only.
        configure_logging(
            "warning", settings.log_format, stream=sys.stderr, secrets=settings.secret_values()
        )
        yield LocalClient(await stack.enter_async_context(data.open(settings, folder)))


def call(
    settings: Settings,
    data: Data[Context],
    operation: Operation[Context, Input, Output],
    given: Input,
    **path: str,
) -> Output:
    """Carry out one operation, wherever the data can be reached; see `Client.call`."""

    async def work() -> Output:
        async with open_client(settings, data) as client:
            return await client.call(operation, given, **path)

    return run(work)


async def _own_folder(
    settings: Settings, daemon: HttpClient, stack: AsyncExitStack, required: str | None
) -> Path | None:
    """Return the folder this process may open, until the stack closes; `None`: a daemon has it.

    Raises:
        CommandFailed: If the data directory is in use and no daemon answers, or is no directory.
        StoreError: If the data directory cannot be locked.
    """
    folder = settings.data_dir
    if required is not None and not (folder / required).exists():
        if await _answers(daemon):
            return None
        if not (nearest := nearest_of(folder)).is_dir():
            raise CommandFailed(
                f"the data directory {folder} cannot be used: {nearest} is no folder; "
                "RELAY_DATA_DIR is to name one"
            )
        # A look at the data must not make a data directory, nor a database in it.
        return Path(stack.enter_context(TemporaryDirectory(prefix="relay-")))
    deadline_s = anyio.current_time() + PATIENCE_S
    while not _is_locked_by_us(folder, stack):
        if await _answers(daemon):
            return None
        # A daemon locks its folder long before its doors open, so a busy folder is no error yet.
        if anyio.current_time() > deadline_s:
            raise CommandFailed(
                f"the data directory {folder} is in use, but no relay answers on "
                f"{settings.admin_listen}"
            )
        await anyio.sleep(PAUSE_S)
    return folder


def nearest_of(folder: Path) -> Path:
    """Return a folder, or the nearest path above it that exists; that may be no folder."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _is_locked_by_us(folder: Path, stack: AsyncExitStack) -> bool:
    try:
        stack.enter_context(lock_folder(folder))
    except StoreBusy:
        return False
    return True


async def _answers(daemon: HttpClient) -> bool:
    try:
        await daemon.call(SHOW_STATUS, NoInput())
    except NoDaemon:  # any other failure is raised: something listens, and people must know
        return False
    return True


@asynccontextmanager
async def _open_outbox(settings: Settings, folder: Path) -> AsyncIterator[OutboxContext]:
    async with _outbox(settings, folder) as outbox:
        yield OutboxContext(apps=_idle(settings), clock=SystemClock(), outbox=outbox)


@asynccontextmanager
async def _open_segments(settings: Settings, folder: Path) -> AsyncIterator[SegmentsContext]:
    clock = SystemClock()
    async with _segments(settings, folder) as segments:
        yield SegmentsContext(
            apps=_idle(settings),
            clock=clock,
            segments=segments,
            importer=Importer(segments, folder, clock),
        )


@asynccontextmanager
async def _open_stores(settings: Settings, folder: Path) -> AsyncIterator[StoresContext]:
    clock = SystemClock()
    async with _segments(settings, folder) as segments, _outbox(settings, folder) as outbox:
        numbers = {name: outbox.counters.number(name) for name in settings.apps}
        guard = guard_policy(settings)
        yield StoresContext(
            apps={
                name: IdleIngestingApp(source=event_source(name, numbers[name], app))
                for name, app in settings.apps.items()
            },
            clock=clock,
            outbox=outbox,
            segments=segments,
            importer=Importer(segments, folder, clock),
            event_ingest=EventIngest(outbox.writer, outbox.message_cache, clock),
            cohort_webhook=CohortWebhook(segments, outbox.writer, numbers, guard, clock),
        )


def _idle(settings: Settings) -> dict[str, IdleApp]:
    return dict.fromkeys(settings.apps, IdleApp())


def _outbox(settings: Settings, folder: Path) -> AbstractAsyncContextManager[Outbox]:
    return open_outbox(
        folder,
        settings.apps,
        max_events=settings.outbox.max_events,
        heartbeat=Heartbeat(SystemClock()),
    )


def _segments(settings: Settings, folder: Path) -> AbstractAsyncContextManager[Segments]:
    clock = SystemClock()
    return open_segments(
        folder, app_rules(settings), now_ms=clock.now_ms(), heartbeat=Heartbeat(clock)
    )


DAEMON: Final[Data[AdminContext]] = Data(None, None)
OUTBOX: Final = Data(OUTBOX_NAME, _open_outbox)
SEGMENTS: Final = Data(SEGMENTS_NAME, _open_segments)
QUARANTINE: Final = Data(OUTBOX_NAME, _open_stores)
"""Bodies read again go to either store."""
DIRECTORY: Final = Data(None, _open_segments)
"""The first import makes the segment table."""
STORES: Final = Data(None, _open_stores)
"""Forgetting a user is remembered even where nothing is stored yet."""
