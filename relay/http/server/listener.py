"""A door: a listening socket with aiohttp behind it, closed only after the last answer."""

import os
from asyncio import BaseProtocol, Server, get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext
from types import TracebackType
from typing import Protocol

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_runner import BaseRunner

from relay.errors import DoorBlocked
from relay.http.server.body import STOP_GRACE_S
from relay.http.server.connections import Connections
from relay.http.server.protocol import Answer, ProtocolServer
from relay.http.server.tls import Handshakes

CLOSE_GRACE_S = STOP_GRACE_S + 0.2
"""For requests in flight when a door closes: their bodies' last seconds, and a sync."""

ABORT_S = 0.5
"""For handlers still running after that; aiohttp then cancels them."""

BACKLOG = 512
"""Connections the kernel queues until they are accepted."""


class Listen(Protocol):
    """Where a door listens."""

    @property
    def host(self) -> str:
        """Host name or IP address."""

    @property
    def port(self) -> int:
        """TCP port; 0 lets the kernel choose."""


class _AppRunner(web.AppRunner):
    """Serves an application through `ServerProtocol`."""

    __slots__ = ("_connections",)

    def __init__(self, app: web.Application, connections: Connections) -> None:
        super().__init__(app, shutdown_timeout=ABORT_S)
        self._connections = connections

    async def _make_server(self) -> web.Server:
        usual = await super()._make_server()
        server = ProtocolServer(usual.request_handler, self._connections)
        server.request_factory = usual.request_factory
        return server


def app_runner(app: web.Application, connections: Connections | None = None) -> BaseRunner:
    """Return the runner of an application."""
    return _AppRunner(app, Connections() if connections is None else connections)


def plain_runner(answer: Answer, connections: Connections | None = None) -> BaseRunner:
    """Return the runner of one function that answers every request."""
    server = ProtocolServer(answer, Connections() if connections is None else connections)
    return web.ServerRunner(server, shutdown_timeout=ABORT_S)


async def _listen(serve: Callable[[], BaseProtocol], address: Listen) -> Server:
    try:
        return await get_running_loop().create_server(
            serve, address.host, address.port, backlog=BACKLOG, reuse_address=True
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise DoorBlocked(f"cannot listen on {address}: {reason}") from error


@asynccontextmanager
async def open_door(
    runner: BaseRunner,
    address: Listen,
    *,
    tls: SSLContext | None = None,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[int]:
    """Serve at `address` and yield the port (the one chosen, if it asks for 0).

    At the end the socket and pending handshakes close first; `drain` gets up to `CLOSE_GRACE_S`
    to let requests in flight be answered, and only then aiohttp aborts what is left.

    Raises:
        DoorBlocked: If the address cannot be listened on.
    """
    await runner.setup()
    try:
        server = runner.server
        assert isinstance(server, ProtocolServer)  # noqa: S101  # it is, since the runner was set up
        handshakes = Handshakes(server, tls) if tls else None
        listening = await _listen(handshakes or server, address)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
            if handshakes:
                handshakes.close()
    finally:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(CLOSE_GRACE_S):
                if drain:
                    await drain()
            await runner.cleanup()


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
