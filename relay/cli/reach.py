"""Reaches what relay holds: through the daemon if one runs, else in the data directory.

A running daemon owns its data directory; who owns it is told by its lock.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Generic

import anyio

from relay.cli.admin_api import AdminApi, NoDaemon, open_admin_api
from relay.cli.data_check import nearest_of
from relay.cli.desk import ApiDesk, Desk, EmptyDesk, Item, ReadPage
from relay.cli.failure import CommandFailed
from relay.clock import SystemClock
from relay.errors import StoreBusy
from relay.heartbeat import Heartbeat
from relay.http.admin.schemas import StatusAnswer
from relay.observability.logs import configure_logging
from relay.outbox.store import DATABASE_NAME, Outbox, lock_folder, open_outbox
from relay.settings import Settings

PATIENCE_S: Final = 5.0
"""For another command at work, or a daemon that is about to open its doors."""

PAUSE_S: Final = 0.1


class Place(Enum):
    """Where a database is reached."""

    DAEMON = auto()
    """A daemon has it open and answers."""

    HERE = auto()
    """No daemon runs; this process has locked the data directory."""

    NOWHERE = auto()
    """No daemon runs, and there is no such database."""


async def take_place(
    settings: Settings, api: AdminApi, stack: AsyncExitStack, database: str | None
) -> Place:
    """Say where a database is reached; locked here, it stays so until the stack is closed.

    Args:
        settings: The configuration.
        api: Of the daemon it describes.
        stack: Holds the lock.
        database: Name of the file, which is not made where there is none; None for what makes
            its databases itself.

    Raises:
        CommandFailed: If the data directory is in use and no daemon answers, or is no directory.
        StoreError: If the data directory does not serve.
    """
    if database is not None and not (settings.data_dir / database).exists():
        if await _answers(api):
            return Place.DAEMON
        if not (nearest := nearest_of(settings.data_dir)).is_dir():
            raise CommandFailed(
                f"the data directory {settings.data_dir} does not serve: {nearest} is no folder; "
                "RELAY_DATA_DIR is to name one"
            )
        return Place.NOWHERE
    deadline_s = anyio.current_time() + PATIENCE_S
    while not _is_locked_by_us(settings, stack):
        if await _answers(api):
            return Place.DAEMON
        if anyio.current_time() > deadline_s:
            raise CommandFailed(
                f"the data directory {settings.data_dir} is in use, but no relay answers on "
                f"{settings.admin_listen}"
            )
        await anyio.sleep(PAUSE_S)
    return Place.HERE


@dataclass(frozen=True, slots=True)
class Reach(Generic[Item]):
    """How a kind of items is reached.

    Attributes:
        path: Where the admin API has them.
        read_page: Reads a page of them from there.
        open_locally: Deals with those of an outbox this process has opened.
    """

    path: str
    read_page: ReadPage[Item]
    open_locally: Callable[[Outbox, Settings], Desk[Item]]


@asynccontextmanager
async def open_desk(settings: Settings, reach: Reach[Item]) -> AsyncIterator[Desk[Item]]:
    """Yield a desk for the items, wherever they can be reached.

    Where there is no outbox yet, none is made.

    Raises:
        CommandFailed: If the data directory is in use and no daemon answers.
        StoreError: If the outbox does not serve.
    """
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(open_admin_api(settings))
        match await take_place(settings, api, stack, DATABASE_NAME):
            case Place.DAEMON:
                yield ApiDesk(api, reach.path, reach.read_page)
            case Place.HERE:
                outbox = await stack.enter_async_context(open_own_outbox(settings))
                yield reach.open_locally(outbox, settings)
            case Place.NOWHERE:
                yield EmptyDesk()


@asynccontextmanager
async def open_own_outbox(settings: Settings) -> AsyncIterator[Outbox]:
    """Open the outbox of a data directory this process has locked.

    What its parts log is for a daemon's log; of a command only warnings are seen, on standard
    error.

    Raises:
        StoreError: If it does not serve.
    """
    configure_logging(
        "warning", settings.log_format, stream=sys.stderr, secrets=settings.secret_values()
    )
    async with open_outbox(
        settings.data_dir,
        settings.apps,
        max_events=settings.outbox.max_events,
        heartbeat=Heartbeat(SystemClock()),
    ) as outbox:
        yield outbox


def _is_locked_by_us(settings: Settings, stack: AsyncExitStack) -> bool:
    """Try to lock the data directory until the stack is closed."""
    try:
        stack.enter_context(lock_folder(settings.data_dir))
    except StoreBusy:
        return False
    return True


async def _answers(api: AdminApi) -> bool:
    """Tell whether a daemon is there."""
    try:
        await api.get("/status", StatusAnswer)
    except NoDaemon:
        return False
    return True
