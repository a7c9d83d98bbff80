"""TLS handshakes, counted against the connection limit from the moment a client connects.

If the listening socket did the handshakes, a door would learn of a connection only afterwards: a
crowd that connects and sends nothing would hold all descriptors, uncounted.
"""

from asyncio import AbstractEventLoop, BaseTransport, Protocol, Task, Transport, get_running_loop
from ssl import SSLContext
from typing import Any, cast

from relay.http.server.protocol import ProtocolServer

HANDSHAKE_S = 10.0
"""For one handshake; a slower client is disconnected."""


class Handshakes:
    """Accepts the connections of a door with TLS, and hands them over after the handshake."""

    def __init__(self, server: ProtocolServer, tls: SSLContext) -> None:
        """Accept connections.

        Args:
            server: Serves each connection after its handshake.
            tls: The door's certificate and key.
        """
        self.server = server
        self.tls = tls
        self.loop = get_running_loop()
        self.is_closed = False
        self.pending: set[Handshake] = set()

    def __call__(self) -> "Handshake":
        """Return the protocol of a new connection."""
        return Handshake(self, self.loop)

    def close(self) -> None:
        """Abort pending handshakes, and connections that still arrive."""
        self.is_closed = True
        for handshake in tuple(self.pending):
            handshake.abort()


class Handshake(Protocol):
    """A connection until its handshake is done: new, so the first to be evicted."""

    is_busy = False
    is_sending = False

    def __init__(self, door: Handshakes, loop: AbstractEventLoop) -> None:
        self._door = door
        self._connections = door.server.door_connections
        self._loop = loop
        self._tcp: Transport | None = None
        self._upgrading: Task[None] | None = None
        self._successor: Protocol | None = None
        self._held = b""

    def abort(self) -> None:
        """Close the connection at once."""
        if self._tcp is not None:
            self._tcp.abort()

    def connection_made(self, transport: BaseTransport) -> None:
        """Count the connection, and start its handshake unless it was aborted for the limit."""
        self._tcp = tcp = cast("Transport", transport)
        if self._door.is_closed:
            self.abort()
            return
        self._connections.add(self)
        if tcp.is_closing():
            return
        self._door.pending.add(self)
        self._upgrading = self._loop.create_task(self._upgrade(tcp))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting; tell the successor if the loop noticed the loss during the hand-over."""
        self._leave()
        if self._successor is not None:
            self._successor.connection_lost(cast("Exception | None", exc))

    def data_received(self, data: bytes) -> None:
        """Keep bytes that arrive before the handshake starts, or right behind it."""
        self._held += data

    async def _upgrade(self, tcp: Transport) -> None:
        try:
            tls = None if tcp.is_closing() else await self._shake_hands(tcp)
        except OSError:  # TLS or connection error: there is nobody to answer
            tls = None
        finally:
            self._leave()
        if tls is not None:
            self._hand_over(tls)

    async def _shake_hands(self, tcp: Transport) -> Transport | None:
        """Return the TLS transport, None if the connection was closed meanwhile."""
        if self._held:
            self._loop.call_soon(_feed, tcp, self._held)
            self._held = b""
        tls = await self._loop.start_tls(
            tcp, self, self._door.tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
        )
        if tls is not None and tcp.is_closing():
            tls.abort()
            return None
        return tls

    def _hand_over(self, tls: Transport) -> None:
        self._successor = successor = self._door.server()
        tls.set_protocol(successor)
        successor.connection_made(tls)
        if self._held:
            successor.data_received(self._held)
            self._held = b""

    def _leave(self) -> None:
        self._door.pending.discard(self)
        self._connections.remove(self)


def _feed(tcp: Transport, early: bytes) -> None:
    """Feed TLS the bytes that were read before it took over the connection.

    uvloop reads from a new connection even if its protocol pauses reading.
    """
    protocol = cast("Any", tcp.get_protocol())
    while early:
        buffer = protocol.get_buffer(len(early))
        size = min(len(buffer), len(early))
        buffer[:size] = early[:size]
        protocol.buffer_updated(size)
        early = early[size:]
