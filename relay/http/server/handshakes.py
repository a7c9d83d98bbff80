"""TLS handshakes of a door's newcomers, who count among its guests from the moment they connect.

Left to the listening socket, a handshake would be over before a door knows that somebody is there:
a crowd that connects and keeps silent would hold all descriptors, and no `Connections` could tell.
"""

from asyncio import AbstractEventLoop, BaseTransport, Protocol, Task, Transport, get_running_loop
from ssl import SSLContext
from typing import Any, cast

from relay.http.server.protocol import ProtocolServer

HANDSHAKE_S = 10.0
"""For one; who takes longer is gone."""


class Handshakes:
    """Accepts the connections of a door with TLS, and leaves those to it that speak it."""

    def __init__(self, server: ProtocolServer, tls: SSLContext) -> None:
        """Begin to accept.

        Args:
            server: Serves whoever's handshake is over.
            tls: What the door proves its name with.
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
        """Cut everybody whose handshake is not over, and whoever else comes."""
        self.is_closed = True
        for handshake in tuple(self.pending):
            handshake.cut()


class Handshake(Protocol):
    """A connection until it speaks TLS: a guest who never asked."""

    is_busy = False
    is_sending = False

    def __init__(self, door: Handshakes, loop: AbstractEventLoop) -> None:
        self._door = door
        self._guests = door.server.guests
        self._loop = loop
        self._wire: Transport | None = None
        self._upgrading: Task[None] | None = None
        self._successor: Protocol | None = None
        self._held = b""

    def cut(self) -> None:
        """Close the connection at once."""
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: BaseTransport) -> None:
        """Come in, and begin the handshake if there is room."""
        self._wire = wire = cast("Transport", transport)
        if self._door.is_closed:
            self.cut()
            return
        self._guests.admit(self)
        if wire.is_closing():
            return
        self._door.pending.add(self)
        self._upgrading = self._loop.create_task(self._upgrade(wire))

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, or tell who took over just now: the loop may have had the news for this one."""
        self._leave()
        if self._successor is not None:
            self._successor.connection_lost(cast("Exception | None", exc))

    def data_received(self, data: bytes) -> None:
        """Keep what comes too early: before the handshake begins, or right behind it."""
        self._held += data

    async def _upgrade(self, wire: Transport) -> None:
        try:
            tls = None if wire.is_closing() else await self._shake_hands(wire)
        except OSError:  # of TLS as of the connection: nobody is there to be told
            tls = None
        finally:
            self._leave()
        if tls is not None:
            self._hand_over(tls)

    async def _shake_hands(self, wire: Transport) -> Transport | None:
        """Return the connection's TLS side, unless the connection is cut meanwhile."""
        if self._held:
            self._loop.call_soon(_feed, wire, self._held)
            self._held = b""
        tls = await self._loop.start_tls(
            wire, self, self._door.tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
        )
        if tls is not None and wire.is_closing():
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
        self._guests.forget(self)


def _feed(wire: Transport, early: bytes) -> None:
    """Give TLS what was read before it took over the connection.

    uvloop reads from a new connection whatever its protocol says, so pausing would not help.
    """
    protocol = cast("Any", wire.get_protocol())
    while early:
        buffer = protocol.get_buffer(len(early))
        size = min(len(buffer), len(early))
        buffer[:size] = early[:size]
        protocol.buffer_updated(size)
        early = early[size:]
