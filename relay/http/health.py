"""`GET /healthz` and `GET /readyz`, the same on both doors: words only, no count, no secret."""

from http import HTTPStatus

from aiohttp import web

from relay.http.responses import Handler, json_response
from relay.observability.health import Health, Report


class HealthAnswers:
    """Answers the two health questions."""

    def __init__(self, health: Health) -> None:
        self._health = health

    @property
    def routes(self) -> dict[str, dict[str, Handler]]:
        """Handlers by path and method."""
        return {
            path: {"GET": handler, "HEAD": handler}
            for path, handler in (("/healthz", self.healthz), ("/readyz", self.readyz))
        }

    async def healthz(self, _: web.BaseRequest) -> web.Response:
        """Say whether every loop is alive."""
        return _answer(self._health.live())

    async def readyz(self, _: web.BaseRequest) -> web.Response:
        """Say whether new events are taken."""
        return _answer(self._health.ready())


def _answer(report: Report) -> web.Response:
    status = HTTPStatus.OK if report.is_ok else HTTPStatus.SERVICE_UNAVAILABLE
    word = "ok" if report.is_ok else "unavailable"
    return json_response({"status": word, "checks": dict(report.checks)}, status=status)
