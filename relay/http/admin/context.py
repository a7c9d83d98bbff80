"""What operations work on.

A daemon offers everything (`AdminContext`). A command that has opened the data directory itself
offers the stores it has opened: an operation declares by its type which of them it needs.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from relay.clock import Clock
from relay.cohorts.poller import Poller
from relay.cohorts.webhook import CohortWebhook
from relay.delivery.pool import SenderPool
from relay.directory.importer import Importer
from relay.directory.sync import DirectorySync
from relay.http.admin.errors import NotFound
from relay.ingest.events import EventIngest, Source
from relay.observability.health import Health
from relay.observability.metrics import Metrics
from relay.observability.status import Status
from relay.outbox.selection import Selection
from relay.outbox.store import Outbox
from relay.segments.store import Segments


@dataclass(frozen=True, kw_only=True)
class AppsContext:
    """The configured apps, by name."""

    apps: Collection[str]
    clock: Clock

    def check(self, app: str) -> None:
        """Return if an app of that name is configured.

        Raises:
            NotFound: If there is none; the text names those there are.
        """
        if app not in self.apps:
            known = ", ".join(sorted(self.apps))
            raise NotFound(f"no app of that name; there are: {known}")


@dataclass(frozen=True, kw_only=True)
class OutboxContext(AppsContext):
    """The outbox.

    Attributes:
        deliveries: Every app's delivery; empty without a daemon.
    """

    outbox: Outbox
    deliveries: Mapping[str, SenderPool] = field(default_factory=dict)

    def selection(
        self, app: str | None, reason: str | None, ids: list[int] | None = None
    ) -> Selection:
        """Return the rows that a query selects.

        Raises:
            NotFound: If there is no such app.
        """
        number = None
        if app is not None:
            self.check(app)
            number = self.outbox.counters.number(app)
        return Selection(None if ids is None else tuple(ids), number, reason)


@dataclass(frozen=True, kw_only=True)
class SegmentsContext(AppsContext):
    """The segment table and the directory.

    Attributes:
        pollers: Every app's poller of cohorts; empty without a daemon.
        syncs: Every app's directory sync; empty without a daemon.
    """

    segments: Segments
    imports: Importer
    pollers: Mapping[str, Poller] = field(default_factory=dict)
    syncs: Mapping[str, DirectorySync] = field(default_factory=dict)

    def number(self, app: str) -> int:
        """Return an app's number in the segment table.

        Raises:
            NotFound: If there is no such app.
        """
        self.check(app)
        return self.segments.cohorts.number(app)


@dataclass(frozen=True, kw_only=True)
class StoresContext(OutboxContext, SegmentsContext):
    """Both stores, and what reads the bodies of both webhooks."""

    reception: EventIngest
    sources: Mapping[str, Source]
    cohort_reception: CohortWebhook


@dataclass(frozen=True, kw_only=True)
class AdminContext(StoresContext):
    """A running daemon."""

    status: Status
    health: Health
    metrics: Metrics
