"""The public door: webhooks, uploads and health, nothing else.

It answers far more requests than the admin door and has a handful of paths, so aiohttp's
low-level server runs it: router and middleware would cost as much as mapping the event.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import web

from relay.clock import Clock
from relay.errors import StoreError
from relay.http.public.webhooks import Webhook
from relay.http.responses import Handler, error_response, unavailable
from relay.http.server.body import BodyReader
from relay.http.server.listener import InFlightRequests
from relay.observability.metrics import Metrics

UNKNOWN_ROUTE = "none"


class Route(NamedTuple):
    """A path: its name in metrics, and the handler of each method."""

    name: str
    handlers: Mapping[str, Handler]


class PublicDoor:
    """Answers every request of the public door."""

    def __init__(
        self,
        apps: Collection[str],
        webhooks: Mapping[str, Webhook],
        fixed: Mapping[str, Mapping[str, Handler]],
        bodies: BodyReader,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Make a door.

        Args:
            apps: Names of the apps.
            webhooks: Every app's webhooks, by the last word of their path.
            fixed: Handlers of all other paths, by path and method.
            bodies: Reads this door's bodies.
            metrics: Counts answers.
            clock: Measures how long they take.
        """
        self._webhooks = webhooks
        self._metrics = metrics
        self._clock = clock
        self._in_flight = InFlightRequests()
        self._bodies = bodies
        self._unknown = Route(UNKNOWN_ROUTE, {})
        self._routes = {
            f"/v1/apps/{app}/{name}": self._webhook(app, name) for app in apps for name in webhooks
        }
        self._routes |= {path: Route(path, handlers) for path, handlers in fixed.items()}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer one request; errors are JSON, and every answer is counted."""
        with self._in_flight:
            return await self._answer(request)

    async def drain(self) -> None:
        """Return once every request in flight is answered; bodies get `STOP_GRACE_S`."""
        self._bodies.stop()
        await self._in_flight.drain()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        began_s = self._clock.monotonic_s()
        route = self._routes.get(request.raw_path) or self._find(request.raw_path)
        try:
            response = await self._handler(route, request.method)(request)
        except web.HTTPException as error:
            response = error_response(error)
        except StoreError as error:
            response = error_response(unavailable(str(error)))
        duration_s = self._clock.monotonic_s() - began_s
        self._metrics.request_answered(route.name, response.status, duration_s)
        return response

    def _handler(self, route: Route, method: str) -> Handler:
        handler = route.handlers.get(method)
        if handler:
            return handler
        if not route.handlers:
            raise web.HTTPNotFound(text="there is nothing here")
        raise web.HTTPMethodNotAllowed(method, route.handlers, text=f"{method} is not served here")

    def _find(self, raw_path: str) -> Route:
        """Return the route of a path with a query, with escapes, or unknown."""
        path = unquote(raw_path.partition("?")[0])
        known = self._routes.get(path)
        if known:
            return known
        match path.split("/"):
            case ["", "v1", "apps", app, name] if name in self._webhooks:
                return self._webhook(app, name)
        return self._unknown

    def _webhook(self, app: str, name: str) -> Route:
        handlers = {"POST": partial(self._webhooks[name].post, app)}
        return Route(f"/v1/apps/{{app}}/{name}", handlers)
