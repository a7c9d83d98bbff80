"""A loopback door for the stand-ins that can be closed and opened again on the same port.

While it is closed the port stays reserved and connections are refused, as if the service
were down. Connections that exist live on; the stand-ins break their requests.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, Self

import anyio
from aiohttp import web
from yarl import URL

SHUTDOWN_S: Final = 0.5


class Doorkeeper(Protocol):
    """Who decides whether the door is open (`relay.sandbox.faults.FaultBoard`)."""

    @property
    def changed(self) -> anyio.Event:
        """Set when the decision may have changed; a new one each time."""

    def is_refusing(self) -> bool:
        """Tell whether the door is to be closed."""

    def next_expiry_s(self) -> float | None:
        """Return when to ask again at the latest; None = not before a change."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` at once whenever the decision may have changed."""


DOORKEEPER: Final = web.AppKey("doorkeeper", Doorkeeper)


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


class Door:
    """Serves one application on one port; use as an async context manager.

    Attributes:
        url: Scheme, host and port; the port is known once the door is entered.
    """

    def __init__(self, app: web.Application, host: str = "127.0.0.1", port: int = 0) -> None:
        app.middlewares.insert(0, _ignore_disconnects)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=SHUTDOWN_S, auto_decompress=False
        )
        self._host = host
        self._port = port
        self._holder: socket.socket | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> URL:
        """Where the door is."""
        return URL.build(scheme="http", host=self._host, port=self._port)

    async def __aenter__(self) -> Self:
        """Reserve the port and open.

        Raises:
            OSError: If the address cannot be had.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        holder = socket.socket(family, socket.SOCK_STREAM)
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((self._host, self._port))
        except OSError:
            holder.close()
            raise
        self._holder, self._port = holder, holder.getsockname()[1]
        await self._runner.setup()
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close, drop the connections and give the port back."""
        self.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(4 * SHUTDOWN_S):
            await self._runner.cleanup()
        if self._holder is not None:
            self._holder.close()

    async def open(self) -> None:
        """Accept connections; nothing happens if it is open."""
        server = self._runner.server
        if self._listener is None and server is not None:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(server, self._host, self._port)

    def close(self) -> None:
        """Refuse connections from now on; nothing happens if it is closed."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def follow(self, keeper: Doorkeeper) -> None:
        """Close and open as `keeper` decides, until cancelled."""
        keeper.on_change(lambda: self.close() if keeper.is_refusing() else None)
        while True:
            changed = keeper.changed
            if keeper.is_refusing():
                self.close()
            else:
                await self.open()
            with anyio.move_on_after(keeper.next_expiry_s()):
                await changed.wait()


@asynccontextmanager
async def running(
    app: web.Application, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[URL]:
    """Serve `app` while the block runs, and give its URL.

    The block owns a task group: enter it where it is left, in a test's body rather than
    in a fixture. What the block raises comes out as it is, not in a group.

    Raises:
        OSError: If the address cannot be had.
    """
    failure: Exception | None = None
    async with Door(app, host, port) as door, anyio.create_task_group() as tasks:
        keeper = app.get(DOORKEEPER)
        if keeper is not None:
            tasks.start_soon(door.follow, keeper, name="sandbox door")
        try:
            yield door.url
        except Exception as error:  # noqa: BLE001 - raised again, outside of the group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
