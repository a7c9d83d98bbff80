"""A listening socket with an aiohttp application behind it, opened and closed in order."""

import os
from asyncio import BaseProtocol, Server, get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Protocol

import anyio
from aiohttp import web
from aiohttp.web_runner import BaseRunner

from relay.errors import DoorBlocked
from relay.http.server.body import STOP_GRACE_S
from relay.http.server.connections import Connections
from relay.http.server.handshakes import Handshakes
from relay.http.server.protocol import Answer, ProtocolServer

CLOSE_GRACE_S = STOP_GRACE_S + 0.2
"""For requests under way when a door closes: a body's last seconds, and its sync."""


CUT_S = 0.5
"""For what is still under way after that."""

BACKLOG = 512
"""Connections the system holds for a door until it takes them in."""


class Listen(Protocol):
    """Where a door listens."""

    @property
    def host(self) -> str:
        """Host name or IP address."""

    @property
    def port(self) -> int:
        """TCP port; 0 lets the kernel choose."""


# Neither has an access log, which would be a log of payloads' paths, nor aiohttp's own
# decompression: `relay.http.server.body` does it, within limits.


class _AppRunner(web.AppRunner):
    """Serves an application as every door is served."""

    __slots__ = ("_guests",)

    def __init__(self, app: web.Application, guests: Connections) -> None:
        super().__init__(app, shutdown_timeout=CUT_S)
        self._guests = guests

    async def _make_server(self) -> web.Server:
        usual = await super()._make_server()
        server = ProtocolServer(usual.request_handler, self._guests)
        server.request_factory = usual.request_factory
        return server


def app_runner(app: web.Application, guests: Connections | None = None) -> BaseRunner:
    """Return what serves an application to `guests`."""
    return _AppRunner(app, Connections() if guests is None else guests)


def plain_runner(answer: Answer, guests: Connections | None = None) -> BaseRunner:
    """Return what serves one function that answers every request of `guests`."""
    server = ProtocolServer(answer, Connections() if guests is None else guests)
    return web.ServerRunner(server, shutdown_timeout=CUT_S)


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
    settle: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[int]:
    """Serve at `address` and yield the port (the one chosen, if it asks for 0).

    At the end the socket closes first, and with it every handshake; `settle` gets up to
    `CLOSE_GRACE_S` to let requests under way be answered, and then connections are cut: aiohttp
    would cut them at once.

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
                if settle:
                    await settle()
            await runner.cleanup()
