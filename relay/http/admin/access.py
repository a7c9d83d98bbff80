"""Who may come in: the bearer of the token; without one, only somebody on this machine.

A browser can be made to call loopback by any page it shows. So what another site has a browser
send is turned away, and on a door without a token a `Host` that is not loopback too (DNS
rebinding): such a page is of the same origin, but under its own name.
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
"""Source: W3C, Fetch Metadata Request Headers. A port makes no site: what else this machine serves
is of the same site."""

LOOPBACK = re.compile(
    r"(?:localhost|(?P<v4>[0-9.]+)|\[(?P<v6>[0-9a-f:.]+)\])(?::[0-9]{1,5})?", re.ASCII
)
"""As a browser writes it; whatever is written otherwise is not worth understanding."""

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guarding(tokens: Tokens, throttle: FailedAuthThrottle) -> Middleware:
    """Return the middleware that lets in or turns away; without tokens, the door is open."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS:
            _check_place(request, is_open=tokens.are_none)
            if not tokens.are_none:
                await _check_token(request, tokens, throttle)
        return await handler(request)

    return guard


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Tell browsers, with every answer of the door, what they must not do with it."""
    response.headers.update(SECURITY_HEADERS)


def _check_place(request: web.Request, *, is_open: bool) -> None:
    """Raise an HTTP error if a page of another site is behind the request.

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
    if presented:
        await throttle.slow(request.remote)
    raise web.HTTPUnauthorized(
        text="wrong or missing token", headers={"WWW-Authenticate": "Bearer"}
    )


def _is_foreign(request: web.Request) -> bool:
    """Return whether a browser says that another site sends this, and not a link to this door."""
    if request.headers.get("Sec-Fetch-Site", "").lower() not in FOREIGN_SITES:
        return False
    is_link = request.headers.get("Sec-Fetch-Mode", "").lower() == "navigate"
    return not is_link or request.method not in {"GET", "HEAD"}


def _netloc(url: str) -> str | None:
    """Return what a URL has of host and port, None if it has neither."""
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
