"""What the admin door is built from."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from relay.clock import Clock
from relay.delivery.delivery import Delivery
from relay.health import Health
from relay.metrics import Metrics
from relay.outbox.outbox import Outbox
from relay.outbox.selection import Selection
from relay.reception import Reception, Source
from relay.status import Status


@dataclass(frozen=True, slots=True)
class AdminParts:
    """The running daemon, as far as an operator may reach it."""

    outbox: Outbox
    deliveries: Mapping[str, Delivery]
    status: Status
    reception: Reception
    sources: Mapping[str, Source]
    health: Health
    metrics: Metrics
    clock: Clock

    def delivery(self, app: str) -> Delivery:
        """Return an app's delivery.

        Raises:
            web.HTTPNotFound: If there is no such app.
        """
        self._check(app)
        return self.deliveries[app]

    def selection(
        self, app: str | None, reason: str | None, ids: list[int] | None = None
    ) -> Selection:
        """Return what a caller selects.

        Raises:
            web.HTTPNotFound: If there is no such app.
        """
        number = None
        if app is not None:
            self._check(app)
            number = self.outbox.ledger.number(app)
        return Selection(None if ids is None else tuple(ids), number, reason)

    def _check(self, app: str) -> None:
        if app not in self.deliveries:
            known = ", ".join(sorted(self.deliveries))
            raise web.HTTPNotFound(text=f"no app of that name; there are: {known}")
