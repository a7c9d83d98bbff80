"""The client sessions that all apps share."""

import aiohttp

from relay.daemon.policies import LIBRARY
from relay.process.dns import ThreadedResolver


def open_session(*, keeps_alive: bool = True) -> aiohttp.ClientSession:
    """Return a client session without limits, in which no app waits for another.

    Args:
        keeps_alive: Whether connections are used again. If so, aiohttp repeats a request whose
            kept connection turns out to be closed; one that starts an export would start two.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, force_close=not keeps_alive, resolver=ThreadedResolver()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": LIBRARY},
    )
