"""The cohort direction as the daemon runs it: its parts, built and started together."""

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from anyio.abc import TaskGroup

from relay.clock import Clock
from relay.cohorts.poller import Poller
from relay.cohorts.webhook import CohortWebhook
from relay.daemon.policies import directory_syncs, guard_policy, pollers
from relay.directory.erasure import UserErasure
from relay.directory.importer import Importer
from relay.directory.observer import Observer
from relay.directory.sync import DirectorySync
from relay.heartbeat import Heartbeat
from relay.maintenance import SEGMENTS, Maintenance
from relay.outbox.store import Outbox
from relay.segments.store import Segments
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class CohortSide:
    """What brings cohorts in.

    Attributes:
        segments: The segment table.
        reception: Takes the bodies of the cohorts hook.
        pollers: What polls every app's cohorts.
        imports: What takes export files over.
        syncs: What keeps every app's directory current.
        feed: What carries events' evidence to the directory.
        forgetter: What forgets users.
        housekeeper: What keeps the table small.
    """

    segments: Segments
    reception: CohortWebhook
    pollers: dict[str, Poller]
    imports: Importer
    syncs: dict[str, DirectorySync]
    feed: Observer
    forgetter: UserErasure
    maintenance: Maintenance

    @property
    def heartbeats(self) -> dict[str, Heartbeat]:
        """The sign of life of every loop, by name."""
        return {
            "directory.feed": self.feed.heartbeat,
            **{f"poller.{app}": poller.heartbeat for app, poller in self.pollers.items()},
            **{f"directory.{app}": sync.heartbeat for app, sync in self.syncs.items()},
        }

    async def start(self, group: TaskGroup) -> None:
        """Start every loop."""
        await group.start(self.feed.run, name="directory feed")
        await group.start(self.maintenance.run, name="segments housekeeping")
        for app, poller in self.pollers.items():
            await group.start(poller.run, name=f"poller of {app}")
        for app, sync in self.syncs.items():
            await group.start(sync.run, name=f"directory sync of {app}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cohort direction finds in the process.

    Attributes:
        session: For the APIs.
        clock: The time.
        check_room: Raises `StoreFull` while the disk is to be left to the events.
        heartbeat: Makes the sign of life of a loop of that name.
    """

    session: aiohttp.ClientSession
    clock: Clock
    check_room: Callable[[], None]
    heartbeat: Callable[[str], Heartbeat]


def build_cohort_side(
    settings: Settings, outbox: Outbox, segments: Segments, around: Surroundings
) -> CohortSide:
    """Build the cohort direction of every configured app.

    Args:
        settings: What it is built from.
        outbox: Its quarantine takes what the hook does not understand.
        segments: The segment table.
        around: What else it needs.
    """
    clock, session = around.clock, around.session
    numbers = {app: outbox.counters.number(app) for app in settings.apps}
    in_segments = {app: segments.catalog.number(app) for app in settings.apps}
    imports = Importer(segments, settings.data_dir, clock, around.check_room)
    heartbeat = around.heartbeat("segments housekeeping")
    return CohortSide(
        segments=segments,
        reception=CohortWebhook(segments, outbox.writer, numbers, guard_policy(settings), clock),
        pollers=pollers(settings, segments, session, clock, around.check_room),
        imports=imports,
        syncs=directory_syncs(settings, segments, imports, session, clock),
        feed=Observer(segments.directory, segments.forgotten, in_segments, clock),
        forgetter=UserErasure(outbox, segments, clock),
        maintenance=Maintenance(segments.retention, clock, heartbeat, SEGMENTS),
    )
