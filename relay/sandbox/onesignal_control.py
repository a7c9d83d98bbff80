"""The traffic source's control over HTTP: `/_sandbox/onesignal…`.

GET   /_sandbox/onesignal                state and oracle
GET   /_sandbox/onesignal/acknowledged   ?after= &limit=  ids answered with 2xx
POST  /_sandbox/onesignal/start          {"events": 1000, "rate_per_s": 50, …}
POST  /_sandbox/onesignal/stop
POST  /_sandbox/onesignal/enable
"""

from typing import Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from relay.sandbox.control import bad_request, conflict, json_response, read_model
from relay.sandbox.liquid import TemplateError
from relay.sandbox.source import SourceConflict, TrafficOrder, TrafficSource

PREFIX: Final = "/_sandbox/onesignal"
_ORDER: Final = TypeAdapter(TrafficOrder)


class _Page(BaseModel):
    """Which ids to show: those after position `after`."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0)
    limit: int = Field(default=1_000, ge=1, le=100_000)


_PAGE: Final = TypeAdapter(_Page)


class OneSignalControl:
    """Handlers of the control routes."""

    def __init__(self, source: TrafficSource) -> None:
        self._source = source

    def mount(self, app: web.Application) -> None:
        """Add the control routes."""
        route = app.router.add_route
        route("GET", PREFIX, self._show)
        route("GET", f"{PREFIX}/acknowledged", self._show_acknowledged)
        route("POST", f"{PREFIX}/start", self._start)
        route("POST", f"{PREFIX}/stop", self._stop)
        route("POST", f"{PREFIX}/enable", self._enable)

    async def _show(self, _request: web.Request) -> web.Response:
        return json_response(self._source.state())

    async def _show_acknowledged(self, request: web.Request) -> web.Response:
        page = read_model(_PAGE, dict(request.query))
        known = self._source.acknowledged()
        end = page.after + page.limit
        return json_response(
            {"items": known[page.after : end], "next": end if end < len(known) else None}
        )

    async def _start(self, request: web.Request) -> web.Response:
        order = read_model(_ORDER, await request.read())
        try:
            self._source.start(order)
        except SourceConflict as error:
            raise conflict(str(error)) from error
        except TemplateError as error:
            raise bad_request(f"template: {error}") from error
        return json_response(self._source.state(), status=202)

    async def _stop(self, _request: web.Request) -> web.Response:
        self._source.stop()
        return json_response(self._source.state())

    async def _enable(self, _request: web.Request) -> web.Response:
        self._source.enable()
        return json_response(self._source.state())
