"""The public door: hooks and health, nothing else."""

from aiohttp import web

from relay.clock import Clock
from relay.doors.door import answering
from relay.doors.events_hook import PATH, EventsHook
from relay.doors.health_routes import health_routes
from relay.health import Health
from relay.metrics import Metrics


def public_app(
    events_hook: EventsHook, health: Health, metrics: Metrics, clock: Clock
) -> web.Application:
    """Return the public door's application."""
    app = web.Application(middlewares=[answering(metrics, clock)])
    app.add_routes([web.post(PATH, events_hook.post), *health_routes(health)])
    return app
