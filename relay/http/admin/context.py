"""What the admin door is built from."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from relay.clock import Clock
from relay.cohorts.poller import Poller
from relay.cohorts.webhook import CohortWebhook
from relay.delivery.delivery import Delivery
from relay.directory.erasure import UserErasure
from relay.directory.importer import Importer
from relay.directory.sync import DirectorySync
from relay.ingest.events import EventIngest, Source
from relay.observability.health import Health
from relay.observability.metrics import Metrics
from relay.observability.status import Status
from relay.outbox.selection import Selection
from relay.outbox.store import Outbox
from relay.segments.store import Segments


@dataclass(frozen=True, slots=True)
class AdminContext:
    """The running daemon, as far as an operator may reach it."""

    outbox: Outbox
    deliveries: Mapping[str, Delivery]
    status: Status
    reception: EventIngest
    sources: Mapping[str, Source]
    health: Health
    metrics: Metrics
    clock: Clock
    segments: Segments
    cohort_reception: CohortWebhook
    pollers: Mapping[str, Poller]
    imports: Importer
    syncs: Mapping[str, DirectorySync]
    forgetter: UserErasure

    def delivery(self, app: str) -> Delivery:
        """Return an app's delivery.

        Raises:
            web.HTTPNotFound: If there is no such app.
        """
        self.check(app)
        return self.deliveries[app]

    def number(self, app: str) -> int:
        """Return an app's number in the segment table.

        Raises:
            web.HTTPNotFound: If there is no such app.
        """
        self.check(app)
        return self.segments.catalog.number(app)

    def selection(
        self, app: str | None, reason: str | None, ids: list[int] | None = None
    ) -> Selection:
        """Return what a caller selects.

        Raises:
            web.HTTPNotFound: If there is no such app.
        """
        number = None
        if app is not None:
            self.check(app)
            number = self.outbox.ledger.number(app)
        return Selection(None if ids is None else tuple(ids), number, reason)

    def check(self, app: str) -> None:
        """Let pass only the name of a configured app.

        Raises:
            web.HTTPNotFound: If there is no such app.
        """
        if app not in self.deliveries:
            known = ", ".join(sorted(self.deliveries))
            raise web.HTTPNotFound(text=f"no app of that name; there are: {known}")
