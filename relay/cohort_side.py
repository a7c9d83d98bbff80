"""The cohort direction as the daemon runs it: its parts, built and started together."""

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from anyio.abc import TaskGroup

from relay.assembly import directory_syncs, guard_policy, pollers
from relay.clock import Clock
from relay.cohorts.polling import Poller
from relay.cohorts.reception import CohortReception
from relay.directory.feed import Feed
from relay.directory.imports import Imports
from relay.directory.sync import DirectorySync
from relay.forgetting import Forgetter
from relay.housekeeping import SegmentsHousekeeper
from relay.outbox.outbox import Outbox
from relay.pulse import Pulse
from relay.segments.segments import Segments
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
    reception: CohortReception
    pollers: dict[str, Poller]
    imports: Imports
    syncs: dict[str, DirectorySync]
    feed: Feed
    forgetter: Forgetter
    housekeeper: SegmentsHousekeeper

    @property
    def pulses(self) -> dict[str, Pulse]:
        """The sign of life of every loop, by name."""
        return {
            "directory.feed": self.feed.pulse,
            **{f"poller.{app}": poller.pulse for app, poller in self.pollers.items()},
            **{f"directory.{app}": sync.pulse for app, sync in self.syncs.items()},
        }

    async def start(self, group: TaskGroup) -> None:
        """Start every loop."""
        await group.start(self.feed.run, name="directory feed")
        await group.start(self.housekeeper.run, name="segments housekeeping")
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
        pulse: Makes the sign of life of a loop of that name.
    """

    session: aiohttp.ClientSession
    clock: Clock
    check_room: Callable[[], None]
    pulse: Callable[[str], Pulse]


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
    numbers = {app: outbox.ledger.number(app) for app in settings.apps}
    in_segments = {app: segments.catalog.number(app) for app in settings.apps}
    imports = Imports(segments, settings.data_dir, clock, around.check_room)
    pulse = around.pulse("segments housekeeping")
    return CohortSide(
        segments=segments,
        reception=CohortReception(segments, outbox.intakes, numbers, guard_policy(settings), clock),
        pollers=pollers(settings, segments, session, clock, around.check_room),
        imports=imports,
        syncs=directory_syncs(settings, segments, imports, session, clock),
        feed=Feed(segments.directory, segments.forgotten, in_segments, clock),
        forgetter=Forgetter(outbox, segments, clock),
        housekeeper=SegmentsHousekeeper(segments.retention, clock, pulse),
    )
