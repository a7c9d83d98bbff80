"""Reaches the segment table: through the daemon if one runs, else in the data directory."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from relay.cli.admin_api import open_admin_api
from relay.cli.local_segments import LocalSegmentDesk
from relay.cli.reach import Place, take_place
from relay.cli.segment_desk import ApiSegmentDesk, SegmentDesk
from relay.clock import SystemClock
from relay.daemon.policies import app_rules
from relay.heartbeat import Heartbeat
from relay.observability.logs import configure_logging
from relay.segments.store import DATABASE_NAME, Segments, open_segments
from relay.settings import Settings


@asynccontextmanager
async def open_segment_desk(settings: Settings) -> AsyncIterator[SegmentDesk]:
    """Yield a desk for the segments, wherever they can be reached.

    Where there is no segment table yet, none is made: an empty one elsewhere stands for it.

    Raises:
        CommandFailed: If the data directory is in use and no daemon answers.
        StoreError: If the segment table does not serve.
    """
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(open_admin_api(settings))
        place = await take_place(settings, api, stack, DATABASE_NAME)
        if place is Place.DAEMON:
            yield ApiSegmentDesk(api)
            return
        folder = settings.data_dir
        if place is Place.NOWHERE:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="relay-")))
        segments = await stack.enter_async_context(open_own_segments(settings, folder))
        yield LocalSegmentDesk(segments)


@asynccontextmanager
async def open_own_segments(settings: Settings, folder: Path) -> AsyncIterator[Segments]:
    """Open the segment table of a folder that no other process uses.

    What its parts log is for a daemon's log; of a command only warnings are seen, on standard
    error.

    Raises:
        StoreError: If it does not serve.
    """
    configure_logging(
        "warning", settings.log_format, stream=sys.stderr, secrets=settings.secret_values()
    )
    clock = SystemClock()
    async with open_segments(
        folder, app_rules(settings), now_ms=clock.now_ms(), heartbeat=Heartbeat(clock)
    ) as segments:
        yield segments
