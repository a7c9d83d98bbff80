"""A loopback listener that can be closed and opened again on the same port.

While it is closed the port stays reserved and connections are refused, as if the service
were down. Connections that exist live on; the stand-ins break their requests.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Self

import anyio
from aiohttp import web
from yarl import URL

from relay.sandbox.common.active_faults import ActiveFaults
from relay.sandbox.common.faults import UploadFault

SHUTDOWN_S: Final = 0.5
CLOSED_BY: Final = web.AppKey("closed_by", ActiveFaults[UploadFault])
"""The faults of an application that close its listener."""


@web.middleware
async def _ignore_disconnects(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """End a request quietly if its client is gone; aiohttp would log a traceback."""
    try:
        return await handler(request)
    except (ConnectionError, web.RequestPayloadError):
        # The same errors may come from elsewhere: only a dead connection explains them.
        if request.transport is not None and not request.transport.is_closing():
            raise
        return web.Response()


class Listener:
    """Serves one application on one port; use as an async context manager."""

    def __init__(self, app: web.Application, host: str = "127.0.0.1", port: int = 0) -> None:
        app.middlewares.insert(0, _ignore_disconnects)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=SHUTDOWN_S, auto_decompress=False
        )
        self._host = host
        self._port = port
        self._reserved: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> URL:
        """Scheme, host and port; the port is known once the listener is entered."""
        return URL.build(scheme="http", host=self._host, port=self._port)

    async def __aenter__(self) -> Self:
        """Reserve the port and open.

        Raises:
            OSError: If the address is not available.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        reserved = socket.socket(family, socket.SOCK_STREAM)
        try:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((self._host, self._port))
        except OSError:
            reserved.close()
            raise
        # Bound but not listening: while closed, no other process can take the port.
        self._reserved, self._port = reserved, reserved.getsockname()[1]
        await self._runner.setup()
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close, drop the connections and release the port."""
        self.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(4 * SHUTDOWN_S):
            await self._runner.cleanup()
        if self._reserved is not None:
            self._reserved.close()

    async def open(self) -> None:
        """Accept connections; no effect if it is open."""
        server = self._runner.server
        if self._server is None and server is not None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(server, self._host, self._port)

    def close(self) -> None:
        """Refuse connections from now on; no effect if it is closed."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def follow(self, faults: ActiveFaults[UploadFault]) -> None:
        """Close and open as `faults` demand, until cancelled."""
        # At once, not at this task's next turn: no request may slip in after `refuse`.
        faults.on_change(lambda: self.close() if faults.is_refusing() else None)
        while True:
            changed = faults.changed
            if faults.is_refusing():
                self.close()
            else:
                await self.open()
            with anyio.move_on_after(faults.next_expiry_s()):
                await changed.wait()


@asynccontextmanager
async def running(
    app: web.Application, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[URL]:
    """Serve `app` while the block runs, and yield its URL.

    The block owns a task group: enter it where it is left, in a test's body rather than
    in a fixture. An exception of the block propagates as it is, not in a group.

    Raises:
        OSError: If the address is not available.
    """
    failure: Exception | None = None
    async with Listener(app, host, port) as listener, anyio.create_task_group() as tasks:
        faults = app.get(CLOSED_BY)
        if faults is not None:
            tasks.start_soon(listener.follow, faults, name="sandbox listener")
        try:
            yield listener.url
        except Exception as error:  # noqa: BLE001 - raised again, outside of the group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
