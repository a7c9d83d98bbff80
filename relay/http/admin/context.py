"""What operations work on.

A daemon offers everything (`AdminContext`). A command that has opened the data directory itself
offers the stores it has opened: an operation declares by its type which of them it needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from relay.clock import Clock
from relay.cohorts.poller import Poller
from relay.cohorts.webhook import CohortWebhook
from relay.delivery.pool import SenderPool
from relay.directory.importer import Importer
from relay.directory.sync import DirectorySync
from relay.errors import NotFound
from relay.ingest.events import EventIngest, Source
from relay.observability.health import Health
from relay.observability.metrics import Metrics
from relay.observability.status import Status
from relay.outbox.selection import Selection
from relay.outbox.store import Outbox
from relay.segments.store import Segments


class App(Protocol):
    """One configured app; its loops are `None` where no daemon runs them."""

    @property
    def delivery(self) -> SenderPool | None:
        """Carries its events to Amplitude."""

    @property
    def poller(self) -> Poller | None:
        """Keeps its cohorts current."""

    @property
    def sync(self) -> DirectorySync | None:
        """Keeps its directory current."""


class IngestingApp(App, Protocol):
    """One app whose events can be read."""

    @property
    def source(self) -> Source:
        """The app as ingest sees it."""


class RunningApp(IngestingApp, Protocol):
    """One app of a running daemon (`relay.daemon.app_runtime`)."""

    @property
    def delivery(self) -> SenderPool:
        """Carries its events to Amplitude."""

    @property
    def poller(self) -> Poller:
        """Keeps its cohorts current."""

    @property
    def sync(self) -> DirectorySync:
        """Keeps its directory current."""


@dataclass(frozen=True, kw_only=True)
class AppsContext:
    """The configured apps, by name."""

    apps: Mapping[str, App]
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
    """The outbox."""

    outbox: Outbox

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
    """The segment table and the directory."""

    segments: Segments
    importer: Importer

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

    apps: Mapping[str, IngestingApp]
    event_ingest: EventIngest
    cohort_webhook: CohortWebhook


@dataclass(frozen=True, kw_only=True)
class AdminContext(StoresContext):
    """A running daemon."""

    apps: Mapping[str, RunningApp]
    status: Status
    health: Health
    metrics: Metrics
