"""Reaches the items of a kind: through the daemon if one runs, else in the data directory.

A running daemon owns its data directory; who owns it is told by its lock.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Generic

import anyio

from relay.cli.admin_api import NoDaemon, open_admin_api
from relay.cli.desk import ApiDesk, Desk, EmptyDesk, Item, ReadPage
from relay.cli.failure import CommandFailed
from relay.clock import SystemClock
from relay.doors.admin.models import Listing
from relay.errors import StoreBusy
from relay.outbox.outbox import DATABASE_NAME, Outbox, lock_folder, open_outbox
from relay.pulse import Pulse
from relay.settings import Settings

PATIENCE_S: Final = 5.0
"""For another command at work, or a daemon that is about to open its doors."""

PAUSE_S: Final = 0.1


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
        through_api = ApiDesk(api, reach.path, reach.read_page)
        if not (settings.data_dir / DATABASE_NAME).exists():
            yield through_api if await _answers(through_api) else EmptyDesk()
            return
        deadline_s = anyio.current_time() + PATIENCE_S
        while not _is_locked_by_us(settings, stack):
            if await _answers(through_api):
                yield through_api
                return
            if anyio.current_time() > deadline_s:
                raise CommandFailed(
                    f"the data directory {settings.data_dir} is in use, but no relay answers on "
                    f"{settings.admin_listen}"
                )
            await anyio.sleep(PAUSE_S)
        yield reach.open_locally(await _open(settings, stack), settings)


def _is_locked_by_us(settings: Settings, stack: AsyncExitStack) -> bool:
    """Try to lock the data directory until the stack is closed."""
    try:
        stack.enter_context(lock_folder(settings.data_dir))
    except StoreBusy:
        return False
    return True


async def _answers(desk: ApiDesk[Item]) -> bool:
    """Tell whether a daemon is there."""
    try:
        await desk.page(Listing(limit=1))
    except NoDaemon:
        return False
    return True


async def _open(settings: Settings, stack: AsyncExitStack) -> Outbox:
    return await stack.enter_async_context(
        open_outbox(
            settings.data_dir,
            settings.apps,
            max_events=settings.outbox.max_events,
            pulse=Pulse(SystemClock()),
        )
    )
