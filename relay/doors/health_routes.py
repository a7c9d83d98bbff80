"""`GET /healthz` and `GET /readyz`, the same on both doors: words only, no count, no secret."""

from http import HTTPStatus

from aiohttp import web

from relay.doors.door import json_response
from relay.health import Health, Report


def health_routes(health: Health) -> list[web.RouteDef]:
    """Return the routes."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(health.live())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.ready())

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]


def _answer(report: Report) -> web.Response:
    status = HTTPStatus.OK if report.is_ok else HTTPStatus.SERVICE_UNAVAILABLE
    word = "ok" if report.is_ok else "unavailable"
    return json_response({"status": word, "checks": dict(report.checks)}, status=status)
