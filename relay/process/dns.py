"""Host name look-ups on daemon threads, which the end of the process does not wait for.

A silent name server blocks a look-up for up to a minute, and it cannot be cancelled. The event
loop's own look-ups would delay the process's exit by as much.
"""

import socket
import threading
from asyncio import AbstractEventLoop, Future, get_running_loop
from contextlib import suppress
from functools import partial
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class ThreadedResolver(AbstractResolver):
    """`getaddrinfo`, on a thread per look-up; aiohttp asks once at a time for each host."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            OSError: If there are none.
        """
        loop = get_running_loop()
        found: Future[list[ResolveResult]] = loop.create_future()
        look = partial(_look_up, loop, found, (host, port, family))
        threading.Thread(target=look, name="host look-up", daemon=True).start()
        return await found

    async def close(self) -> None:
        """Nothing to close: a resolver holds no resources."""


def _look_up(
    loop: AbstractEventLoop,
    found: "Future[list[ResolveResult]]",
    sought: tuple[str, int, socket.AddressFamily],
) -> None:
    """Look a host up and hand the result to the loop, if that still runs."""
    try:
        tell = partial(_tell, found, _addresses(*sought), None)
    except OSError as error:
        tell = partial(_tell, found, [], error)
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(tell)


def _tell(
    found: "Future[list[ResolveResult]]", addresses: list[ResolveResult], error: OSError | None
) -> None:
    if found.done():
        return
    if error is None:
        found.set_result(addresses)
    else:
        found.set_exception(error)


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    infos = socket.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    return [
        ResolveResult(
            hostname=host,
            host=socket.getnameinfo(address, numeric)[0],  # with the zone of a link-local address
            port=port,
            family=kind,
            proto=proto,
            flags=_NUMERIC,
        )
        for kind, _, proto, _, address in infos
    ]
