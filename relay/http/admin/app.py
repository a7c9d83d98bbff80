"""The admin door's application."""

from functools import partial

from aiohttp import web

from relay.http.admin.access import add_security_headers, guarding
from relay.http.admin.context import AdminContext
from relay.http.admin.directory import DirectoryOperations
from relay.http.admin.letters import Letters
from relay.http.admin.openapi import describe
from relay.http.admin.operations import PREFIX, operation_routes
from relay.http.admin.runs import RunOperations
from relay.http.admin.segments import SegmentOperations
from relay.http.admin.status import Apps
from relay.http.admin.users import UserOperations
from relay.http.auth import Tokens
from relay.http.failed_auth import FailedAuthThrottle
from relay.http.health import HealthAnswers
from relay.http.responses import answering
from relay.http.server.body import BodyReader
from relay.http.server.in_flight import InFlightRequests, counting
from relay.observability.metrics import CONTENT_TYPE

__all__ = ["AdminContext", "admin_app"]


def admin_app(
    parts: AdminContext,
    bodies: BodyReader,
    under_way: InFlightRequests,
    attempts: FailedAuthThrottle,
    *,
    tokens: Tokens,
) -> web.Application:
    """Return the application of the door at which the operator knocks.

    Args:
        parts: The running daemon.
        bodies: Who reads this door's bodies; aiohttp's own server invites them.
        under_way: Counts the requests until each is answered.
        attempts: Slows who guesses the token.
        tokens: Who presents one may come in; none at all let in whoever is on this machine.
    """
    answer, guard = answering(parts.metrics, parts.clock), guarding(tokens, attempts)
    app = web.Application(middlewares=[counting(under_way), answer, guard])
    app.on_response_prepare.append(add_security_headers)
    groups = (Apps, Letters, SegmentOperations, RunOperations, UserOperations, DirectoryOperations)
    operations = [operation for group in groups for operation in group(parts).operations()]
    document = describe(operations)
    health = HealthAnswers(parts.health)

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    app.add_routes(
        [
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.get("/metrics", partial(_metrics, parts)),
            web.get(f"{PREFIX}/openapi.json", openapi),
            *operation_routes(operations, bodies),
        ]
    )
    return app


async def _metrics(parts: AdminContext, _: web.Request) -> web.Response:
    apps, segments = await parts.status.apps(), await parts.status.segments()
    text = parts.metrics.render(
        {app: status.figures for app, status in apps.items()},
        {app: status.figures for app, status in segments.items()},
    )
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})
