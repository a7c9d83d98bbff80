"""The admin door's application."""

from collections.abc import Sequence
from functools import cache, partial

import anyio
from aiohttp import web

from relay.http.admin import dead_letters, directory, quarantine, runs, segments, status, users
from relay.http.admin.access import add_security_headers, guarding
from relay.http.admin.context import AdminContext
from relay.http.admin.openapi import describe
from relay.http.admin.operations import PREFIX, AnyOperation, operation_routes
from relay.http.auth import FailedAuthThrottle, Tokens
from relay.http.health import HealthAnswers
from relay.http.responses import answering
from relay.http.server.body import BodyReader
from relay.http.server.listener import InFlightRequests, counting
from relay.observability.metrics import CONTENT_TYPE

OPERATIONS: Sequence[AnyOperation[AdminContext]] = (
    *status.OPERATIONS,
    *dead_letters.OPERATIONS,
    *quarantine.OPERATIONS,
    *segments.OPERATIONS,
    *runs.OPERATIONS,
    *users.OPERATIONS,
    *directory.OPERATIONS,
)
"""Everything the API can do, in the order of its document."""


def admin_app(
    context: AdminContext,
    bodies: BodyReader,
    in_flight: InFlightRequests,
    throttle: FailedAuthThrottle,
    *,
    tokens: Tokens,
) -> web.Application:
    """Return the application of the admin door.

    Args:
        context: The running daemon.
        bodies: Reads request bodies; here aiohttp itself sends `100 Continue`.
        in_flight: Counts requests until each is answered.
        throttle: Slows down guesses of the token.
        tokens: Accepted bearer tokens; without any, every client on this machine is let in.
    """
    answer, guard = answering(context.metrics, context.clock), guarding(tokens, throttle)
    app = web.Application(middlewares=[counting(in_flight), answer, guard])
    app.on_response_prepare.append(add_security_headers)
    health = HealthAnswers(context.health)
    app.add_routes(
        [
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.get("/metrics", partial(_metrics, context)),
            web.get(f"{PREFIX}/openapi.json", _openapi),
            *operation_routes(OPERATIONS, context, bodies),
        ]
    )
    return app


@cache
def _document() -> bytes:
    return describe(OPERATIONS)


async def _openapi(_: web.Request) -> web.Response:
    # Describing takes a tenth of a second: too long for a start that may never be asked for it,
    # and, in the loop, for the events that arrive meanwhile.
    body = await anyio.to_thread.run_sync(_document)
    return web.Response(body=body, content_type="application/json")


async def _metrics(context: AdminContext, _: web.Request) -> web.Response:
    by_app, segments_by_app = await context.status.apps(), await context.status.segments()
    text = context.metrics.render(
        {app: one.figures for app, one in by_app.items()},
        {app: one.figures for app, one in segments_by_app.items()},
    )
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})
