"""The CSV export's control over HTTP: `/_sandbox/exports…`, beside what `knobs` adds.

PUT  /_sandbox/exports/subscribers   [[external_id, id, device_type, subscribed], …], or
                                     {"prefix": "user-", "stop": 1000000} for a range

`?app_id=` names the app; else it is the first.
"""

from typing import Final

from aiohttp import web
from pydantic import TypeAdapter

from relay.sandbox.answers import JsonObject
from relay.sandbox.control import not_found, read_model
from relay.sandbox.csv_export import CsvExportStandIn, ExportConditions
from relay.sandbox.knobs import Knobs
from relay.sandbox.subscribers import Subscriber, SubscriberRange

PREFIX: Final = "/_sandbox/exports"
_SUBSCRIBERS: Final[TypeAdapter[tuple[Subscriber, ...] | SubscriberRange]] = TypeAdapter(
    tuple[Subscriber, ...] | SubscriberRange
)


class ExportControl:
    """Handlers of the control routes."""

    def __init__(self, stand_in: CsvExportStandIn) -> None:
        self._stand_in = stand_in
        self._knobs = Knobs(PREFIX, stand_in, ExportConditions, self.summary)

    def mount(self, app: web.Application) -> None:
        """Add the control routes."""
        self._knobs.mount(app)
        app.router.add_put(f"{PREFIX}/subscribers", self._put)

    def summary(self) -> JsonObject:
        """Return the number of subscriptions of each app."""
        return {"apps": {app_id: self._stand_in.count(app_id) for app_id in self._stand_in.keys}}

    async def _put(self, request: web.Request) -> web.Response:
        app_id = request.query.get("app_id", next(iter(self._stand_in.keys), ""))
        if app_id not in self._stand_in.keys:
            raise not_found("no app has this app_id")
        subscribers = read_model(_SUBSCRIBERS, await request.read())
        self._stand_in.put(subscribers, app_id=app_id)
        return self._knobs.state()
