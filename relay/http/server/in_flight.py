"""Requests of a door that are not answered yet, so that a door can close behind the last one."""

from types import TracebackType

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


class InFlightRequests:
    """Counts requests: each is a `with` block around its answer."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = anyio.Event()

    def __enter__(self) -> None:
        """Begin a request."""
        self._count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End a request."""
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def settle(self) -> None:
        """Return once no request is under way."""
        while self._count:
            self._idle = anyio.Event()
            await self._idle.wait()


def counting(under_way: InFlightRequests) -> Middleware:
    """Return the middleware that counts an application's requests."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        with under_way:
            return await handler(request)

    return count
