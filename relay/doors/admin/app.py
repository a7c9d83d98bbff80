"""The admin door's application."""

from aiohttp import web

from relay.doors.admin.apps import Apps
from relay.doors.admin.guard import guarding
from relay.doors.admin.letters import Letters
from relay.doors.admin.openapi import describe
from relay.doors.admin.operations import PREFIX, operation_routes
from relay.doors.admin.parts import AdminParts
from relay.doors.bodies import Bodies
from relay.doors.door import answering
from relay.doors.health_routes import HealthAnswers
from relay.metrics import CONTENT_TYPE

__all__ = ["AdminParts", "admin_app"]


def admin_app(parts: AdminParts, bodies: Bodies, *, token: str | None) -> web.Application:
    """Return the application of the door at which the operator knocks.

    Args:
        parts: The running daemon.
        bodies: Who reads this door's bodies; aiohttp's own server invites them.
        token: Who presents it may come in; None lets in whoever is on this machine.
    """
    app = web.Application(middlewares=[answering(parts.metrics, parts.clock), guarding(token)])
    operations = [*Apps(parts).operations(), *Letters(parts).operations()]
    document = describe(operations)
    health = HealthAnswers(parts.health)

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        apps = await parts.status.apps()
        figures = {app: status.figures for app, status in apps.items()}
        text = parts.metrics.render(figures)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    app.add_routes(
        [
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.get("/metrics", metrics),
            web.get(f"{PREFIX}/openapi.json", openapi),
            *operation_routes(operations, bodies),
        ]
    )
    return app
