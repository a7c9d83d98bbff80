"""Access to the admin door: with the bearer token or, where none is set, from this machine only.

Any page can make a browser call loopback. So requests that another site has a browser send are
refused. A door without a token also refuses a `Host` that is not loopback (DNS rebinding): such a
page has the same origin, but under its own name.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from relay.http.auth import FailedAuthThrottle, Tokens, presented_tokens

OPEN_PATHS = frozenset({"/healthz", "/readyz"})

FOREIGN_SITES = frozenset({"cross-site", "same-site"})
"""Another port of this machine is the same site. Source: W3C, Fetch Metadata Request Headers."""

LOOPBACK = re.compile(
    r"(?:localhost|(?P<v4>[0-9.]+)|\[(?P<v6>[0-9a-f:.]+)\])(?::[0-9]{1,5})?", re.ASCII
)
"""The spellings that browsers send; any other is refused."""

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guarding(tokens: Tokens, throttle: FailedAuthThrottle) -> Middleware:
    """Return the middleware that refuses requests without access.

    Args:
        tokens: Accepted tokens; without any, none is asked for.
        throttle: Slows down guesses.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS:
            _check_origin(request, is_open=tokens.are_none)
            if not tokens.are_none:
                await _check_token(request, tokens, throttle)
        return await handler(request)

    return guard


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add headers that restrict what browsers do with an answer."""
    response.headers.update(SECURITY_HEADERS)


def _check_origin(request: web.Request, *, is_open: bool) -> None:
    """Refuse a request that comes from another site's page.

    Args:
        request: The request.
        is_open: Whether the door has no token.
    """
    host = request.headers.get("Host", "").lower()
    target = request.raw_path
    if not target.startswith("/") and _netloc(target) != host:
        raise web.HTTPBadRequest(text="the request names two hosts")
    if is_open and not _is_loopback(host):
        raise web.HTTPForbidden(text="this door answers to loopback names only")
    origins = request.headers.getall("Origin", ())
    if any(_netloc(origin) != host for origin in origins) or _is_foreign(request):
        raise web.HTTPForbidden(text="requests from other sites are refused")


async def _check_token(request: web.Request, tokens: Tokens, throttle: FailedAuthThrottle) -> None:
    presented = presented_tokens(request)
    if tokens.admit(presented):
        return
    if presented:  # a request without any token guesses nothing
        await throttle.slow(request.remote)
    raise web.HTTPUnauthorized(
        text="wrong or missing token", headers={"WWW-Authenticate": "Bearer"}
    )


def _is_foreign(request: web.Request) -> bool:
    """Return whether another site's page sends this, unless a user follows a link to this door."""
    if request.headers.get("Sec-Fetch-Site", "").lower() not in FOREIGN_SITES:
        return False
    is_link = request.headers.get("Sec-Fetch-Mode", "").lower() == "navigate"
    return not is_link or request.method not in {"GET", "HEAD"}


def _netloc(url: str) -> str | None:
    """Return the host and port of a URL as written, `None` if it has neither."""
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    """Return whether a `Host` header names this machine by a loopback name or address."""
    named = LOOPBACK.fullmatch(host)
    if named is None:
        return False
    address = named["v4"] or named["v6"]
    try:
        return address is None or ip_address(address).is_loopback
    except ValueError:
        return False
