"""TLS of a door: its certificate, renewed while it is open, and the handshakes of its connections.

A renewal writes new files and sends SIGHUP: open connections keep the old certificate, new ones
get the new one.

Handshakes count against the connection limit from the moment a client connects. If the listening
socket did them, a door would learn of a connection only afterwards: a crowd that connects and
sends nothing would hold all descriptors, uncounted.
"""

import ssl
from asyncio import AbstractEventLoop, BaseTransport, Protocol, Task, Transport, get_running_loop
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from relay.errors import ConfigError
from relay.http.server.protocol import ProtocolServer

PROTOCOL: Final = "http/1.1"

HANDSHAKE_S: Final = 10.0
"""For one handshake; a slower client is disconnected."""


class Certificate:
    """One certificate with its key, in files.

    Attributes:
        context: For the listening socket; new connections get the files as last read.
    """

    def __init__(self, variables: str, cert_file: Path, key_file: Path) -> None:
        """Read the files.

        Args:
            variables: Prefix of the settings' names, such as `RELAY_TLS`.
            cert_file: The certificate chain in PEM, leaf first.
            key_file: Its private key in PEM, not encrypted.

        Raises:
            ConfigError: If a file cannot be used; the text says which and why.
        """
        self._variables = variables
        self._cert_file = cert_file
        self._key_file = key_file
        self.context = self.read()

    def read(self) -> ssl.SSLContext:
        """Return a context made of the files as they are now.

        Raises:
            ConfigError: If they cannot be used.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([PROTOCOL])
        self._load_into(context)
        return context

    def renew(self) -> None:
        """Use the files as they are now from the next connection on.

        Raises:
            ConfigError: If they cannot be used; the old certificate stays.
        """
        # Try them on another context first: a half-written certificate would break the live one.
        self.read()
        self._load_into(self.context)

    def _load_into(self, context: ssl.SSLContext) -> None:
        for variable, file in (("CERT_FILE", self._cert_file), ("KEY_FILE", self._key_file)):
            _try_reading(f"{self._variables}_{variable}", file)
        try:
            context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError([f"{self._variables}_CERT_FILE: {_explain(error)}"]) from None


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates of the two doors; a door without one speaks plain HTTP."""

    public: Certificate | None
    admin: Certificate | None

    @property
    def public_tls(self) -> ssl.SSLContext | None:
        """TLS of the public door's socket; None: plain HTTP."""
        return self.public.context if self.public else None

    @property
    def admin_tls(self) -> ssl.SSLContext | None:
        """TLS of the admin door's socket; None: plain HTTP."""
        return self.admin.context if self.admin else None

    def check(self) -> None:
        """Read all files again without using them.

        Raises:
            ConfigError: If one cannot be used.
        """
        for certificate in self._held:
            certificate.read()

    def renew(self) -> None:
        """Use all files as they are now.

        Raises:
            ConfigError: If one cannot be used.
        """
        for certificate in self._held:
            certificate.renew()

    @property
    def _held(self) -> list[Certificate]:
        return [certificate for certificate in (self.public, self.admin) if certificate]


def trusting(cert_file: Path) -> ssl.SSLContext:
    """Return a client's context that trusts exactly this certificate, no matter who signed it.

    Raises:
        ConfigError: If the file does not hold one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # commands connect by address
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cert_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError([f"{cert_file}: {_explain(error)}"]) from None
    return context


def _try_reading(variable: str, file: Path) -> None:
    try:
        file.read_bytes()
    except OSError as error:
        raise ConfigError([f"{variable}: {file} cannot be read: {error.strerror}"]) from None


_no_password: Callable[[], str] = str  # without it OpenSSL asks on the terminal


def _explain(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    match reason:
        case "KEY_VALUES_MISMATCH":
            return "the key is not this certificate's; wanted the pair"
        case "NO_START_LINE" | "PEM_LIB" | "NO_CERTIFICATE_OR_CRL_FOUND" | None:
            return "wanted a certificate and its unencrypted key, both in PEM"
        case _:
            return f"the certificate cannot be used: {reason}"


class Handshakes:
    """Accepts the connections of a door with TLS, and hands them over after the handshake."""

    def __init__(self, server: ProtocolServer, tls: ssl.SSLContext) -> None:
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
