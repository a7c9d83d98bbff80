"""Answers of either door: JSON bodies, errors as `{"error": …}`, and their count."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import orjson
import structlog
from aiohttp import typedefs, web

from relay.clock import Clock
from relay.errors import StoreError
from relay.observability.metrics import Metrics

log = structlog.get_logger(__name__)

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.Response]]
"""Answers one request of a door."""

RETRY_AFTER_S = 5
"""What a refused sender is asked to wait; free space is measured more often than that."""


def answering(metrics: Metrics, clock: Clock) -> typedefs.Middleware:
    """Return the middleware that gives errors their JSON and counts every answer."""

    @web.middleware
    async def answer(request: web.Request, handler: typedefs.Handler) -> web.StreamResponse:
        began_s = clock.monotonic_s()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = error_response(error)
        except StoreError as error:
            response = error_response(unavailable(str(error)))
        except Exception as error:  # noqa: BLE001  # a defect: answered, and told in one word
            log.error("request.failed", error=type(error).__name__)  # noqa: TRY400  # no values
            response = json_response({"error": "relay failed to answer"}, status=500)
        route = request.match_info.route.resource
        metrics.request_answered(
            route.canonical if route else "none", response.status, clock.monotonic_s() - began_s
        )
        return response

    return answer


def unavailable(reason: str) -> web.HTTPServiceUnavailable:
    """Return the answer that asks a sender to come again."""
    return web.HTTPServiceUnavailable(text=reason, headers={"Retry-After": str(RETRY_AFTER_S)})


def error_response(error: web.HTTPException) -> web.Response:
    """Return an HTTP error as `{"error": …}`, with the headers that belong to it."""
    kept = {
        name: error.headers[name]
        for name in ("Allow", "Retry-After", "WWW-Authenticate", "Location")
        if name in error.headers
    }
    return json_response({"error": error.text or error.reason}, status=error.status, headers=kept)


def json_response(
    value: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return `value` as a JSON answer."""
    return web.Response(
        body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
    )
