"""Requests in flight, so that a door closes only after the last answer."""

from types import TracebackType

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


class InFlightRequests:
    """Counts the requests being answered; each is a `with` block."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = anyio.Event()

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def drain(self) -> None:
        """Return once no request is in flight."""
        while self._count:
            self._idle = anyio.Event()
            await self._idle.wait()


def counting(in_flight: InFlightRequests) -> Middleware:
    """Return the middleware that counts an application's requests."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        with in_flight:
            return await handler(request)

    return count
