"""Checks the doors: is the address free or held by a relay, would clients accept the TLS?"""

import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp

from relay.cli.check.report import Finding, bad, good
from relay.cli.client import door_url, trusted
from relay.clock import Clock
from relay.errors import ConfigError
from relay.http.server.tls import Certificate, trusting
from relay.settings import Address, Settings

ANSWER_TIMEOUT_S: Final = 3.0

SOON_S: Final = 14 * 86_400
"""Automatic renewal happens earlier than that before a certificate's end."""

ROUND_TRIPS: Final = 4
"""More than a handshake takes."""


async def check_door(name: str, address: Address, cert_file: Path | None = None) -> Finding:
    """Check whether an address is free, held by a relay, or unavailable.

    Args:
        name: The door's name for people.
        address: Where it listens.
        cert_file: Its certificate, if it has one.
    """
    try:
        _try_address(address)
    except socket.gaierror as error:
        return bad(name, f"{address} is no address of this machine: {error.strerror}")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if await _is_relay(address, cert_file):
                return good(name, f"{address}, held by a relay that runs")
            return bad(name, f"{address} is in use by another program")
        return bad(name, f"{address} cannot be listened on: {error.strerror}")
    return good(name, f"{address} is free")


def _try_address(address: Address) -> None:
    """Bind the address for a moment, as the daemon would.

    Raises:
        OSError: If it cannot be bound.
    """
    places = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, kind, protocol, _, place in places:
        with socket.socket(family, kind, protocol) as door:
            # As the daemon does: connections of an earlier process do not hold the address.
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind(place)


async def _is_relay(address: Address, cert_file: Path | None) -> bool:
    tls = trusted(cert_file)
    url = door_url(address, is_tls=tls is not None) / "healthz"
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False, ssl=tls or True) as response,
        ):
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
        return False
    return isinstance(answer, dict) and {"status", "checks"} <= answer.keys()


def check_certificates(settings: Settings, clock: Clock) -> list[Finding]:
    """Check for each door that has a certificate whether a client would accept it."""
    doors = (
        ("public", "RELAY_TLS", settings.tls_cert_file, settings.tls_key_file),
        ("admin", "RELAY_ADMIN_TLS", settings.admin_tls_cert_file, settings.admin_tls_key_file),
    )
    return [
        _check_certificate(f"certificate of the {door} door", variables, (cert, key), clock)
        for door, variables, cert, key in doors
        if cert and key
    ]


def _check_certificate(
    name: str, variables: str, files: tuple[Path, Path], clock: Clock
) -> Finding:
    try:
        ends_at = _handshake(Certificate(variables, *files).context, trusting(files[0]))
    except ConfigError as error:
        return bad(name, str(error))
    except ssl.SSLError as error:
        return bad(name, f"no client would take it: {_reason_of(error)}; renew it")
    left_s = ssl.cert_time_to_seconds(ends_at) - clock.now_ms() / 1000
    if left_s < SOON_S:
        return bad(name, f"ends in {left_s / 86_400:.0f} days, on {ends_at}: renew it")
    return good(name, f"valid until {ends_at}")


def _reason_of(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error.reason)


def _handshake(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> str:
    """Connect a client and a server in memory; return the end of the certificate's validity.

    Raises:
        ssl.SSLError: If the client rejects the certificate.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_tls.wrap_bio(to_server, to_client, server_side=True)
    client = client_tls.wrap_bio(to_client, to_server)
    for side in _turns(client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = client.getpeercert() or {}
    return str(shown["notAfter"])


def _turns(client: ssl.SSLObject, server: ssl.SSLObject) -> Iterator[ssl.SSLObject]:
    for _ in range(ROUND_TRIPS):
        yield from (client, server)
