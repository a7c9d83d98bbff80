"""Looks whether relay's doors can be opened, or are open because a relay runs."""

import errno
import socket
from pathlib import Path
from typing import Final

import aiohttp

from relay.cli.admin_api import dial, tls_of
from relay.cli.findings import Finding, bad, good
from relay.settings import Address

ANSWER_TIMEOUT_S: Final = 3.0


async def check_door(name: str, address: Address, cert_file: Path | None = None) -> Finding:
    """Say whether an address is free, held by a relay, or not to be had.

    Args:
        name: What a person calls the door.
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
    """Take the address for a moment, as the daemon would.

    Raises:
        OSError: If it cannot be had.
    """
    places = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, kind, protocol, _, place in places:
        with socket.socket(family, kind, protocol) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind(place)


async def _is_relay(address: Address, cert_file: Path | None) -> bool:
    tls = tls_of(cert_file)
    url = dial(address, is_tls=tls is not None) / "healthz"
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
