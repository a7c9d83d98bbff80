"""Who may come in: the bearer of the token; without one, only somebody on this machine.

A browser can be made to call loopback by any page it shows, so a foreign `Origin` is turned
away, and on a door without a token a `Host` that is not loopback too (DNS rebinding).
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from relay.doors.tokens import Tokens, presented_tokens

OPEN_PATHS = frozenset({"/healthz", "/readyz"})

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def guarding(token: str | None) -> Middleware:
    """Return the middleware that lets in or turns away."""
    tokens = Tokens([token]) if token else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        _admit(request, tokens)
        return await handler(request)

    return guard


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Tell browsers, with every answer of the door, what they must not do with it."""
    response.headers.update(SECURITY_HEADERS)


def _admit(request: web.Request, tokens: Tokens | None) -> None:
    """Raise an HTTP error unless the request may come in."""
    if request.path in OPEN_PATHS:
        return
    if tokens is None and not _is_loopback(request.host):
        raise web.HTTPForbidden(text="this door answers to loopback names only")
    origin = request.headers.get("Origin")
    if origin is not None and _netloc(origin) != request.host:
        raise web.HTTPForbidden(text="requests from other sites are refused")
    if tokens is not None and not tokens.admit(presented_tokens(request)):
        raise web.HTTPUnauthorized(
            text="wrong or missing token", headers={"WWW-Authenticate": "Bearer"}
        )


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    """Return whether a `Host` header names this machine by a loopback name or address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
