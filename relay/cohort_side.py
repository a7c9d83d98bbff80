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


def build_cohort_side(
    settings: Settings,
    outbox: Outbox,
    segments: Segments,
    session: aiohttp.ClientSession,
    clock: Clock,
    pulse: Callable[[str], Pulse],
) -> CohortSide:
    """Build the cohort direction of every configured app.

    Args:
        settings: What they are built from.
        outbox: Its quarantine takes what the hook does not understand.
        segments: The segment table.
        session: For the APIs.
        clock: The time.
        pulse: Makes the sign of life of a loop of that name.
    """
    numbers = {app: outbox.ledger.number(app) for app in settings.apps}
    in_segments = {app: segments.catalog.number(app) for app in settings.apps}
    imports = Imports(segments, settings.data_dir, clock)
    return CohortSide(
        segments=segments,
        reception=CohortReception(segments, outbox.intakes, numbers, guard_policy(settings), clock),
        pollers=pollers(settings, segments, session, clock),
        imports=imports,
        syncs=directory_syncs(settings, segments, imports, session, clock),
        feed=Feed(segments.directory, segments.forgotten, in_segments, clock),
        forgetter=Forgetter(outbox, segments, clock),
        housekeeper=SegmentsHousekeeper(segments.retention, clock, pulse("segments housekeeping")),
    )
