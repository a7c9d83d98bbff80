"""The public door: hooks, uploads and health, nothing else.

It answers far more requests than everything else together and has a handful of paths, so it
is served by aiohttp's low-level server; a router and middleware would cost a hook as much as
understanding its event.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import web

from relay.clock import Clock
from relay.errors import StoreError
from relay.http.public.webhook import AppWebhook
from relay.http.responses import Handler, error_response, unavailable
from relay.http.server.body import BodyReader
from relay.http.server.in_flight import InFlightRequests
from relay.observability.metrics import Metrics

UNKNOWN_ROUTE = "none"


class Route(NamedTuple):
    """A path's name in metrics, and who answers each method there."""

    name: str
    handlers: Mapping[str, Handler]


class PublicDoor:
    """Answers every request of the public door."""

    def __init__(
        self,
        apps: Collection[str],
        hooks: Mapping[str, AppWebhook],
        fixed: Mapping[str, Mapping[str, Handler]],
        bodies: BodyReader,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Make a door.

        Args:
            apps: The apps that have hooks.
            hooks: Who answers an app's hook of that name, the last word of its path.
            fixed: Who answers each method at the other paths.
            bodies: Who reads this door's bodies.
            metrics: Where answers are counted.
            clock: Measures how long they take.
        """
        self._hooks = hooks
        self._metrics = metrics
        self._clock = clock
        self._under_way = InFlightRequests()
        self._bodies = bodies
        self._unknown = Route(UNKNOWN_ROUTE, {})
        self._routes = {
            f"/v1/apps/{app}/{name}": self._hook(app, name) for app in apps for name in hooks
        }
        self._routes |= {path: Route(path, handlers) for path, handlers in fixed.items()}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer one request; errors are JSON, and everything is counted."""
        with self._under_way:
            return await self._answer(request)

    async def settle(self) -> None:
        """Return once every request under way is answered; bodies get a last few seconds."""
        self._bodies.stop()
        await self._under_way.settle()

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
        """Return the route of a path not written as usual: with a query, escaped, unknown."""
        path = unquote(raw_path.partition("?")[0])
        known = self._routes.get(path)
        if known:
            return known
        match path.split("/"):
            case ["", "v1", "apps", app, name] if name in self._hooks:
                return self._hook(app, name)
        return self._unknown

    def _hook(self, app: str, name: str) -> Route:
        handlers = {"POST": partial(self._hooks[name].post, app)}
        return Route(f"/v1/apps/{{app}}/{name}", handlers)
