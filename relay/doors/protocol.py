"""aiohttp's low-level server, made to answer malformed requests without repeating them.

By itself aiohttp answers what it cannot parse with a text that quotes it, and logs the same
with a traceback: both would hold parts of payloads and tokens.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

log = structlog.get_logger(__name__)


class _Protocol(RequestHandler):
    """One connection of the public door."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # quotes the request
    ) -> web.StreamResponse:
        """Answer in JSON, log the kind of error alone, and close the connection."""
        is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        write = log.error if is_ours else log.debug
        write("request.failed", status=int(status), error=type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; no other can be sent")
        words = "relay failed to answer" if is_ours else "the request is not valid HTTP"
        response = web.Response(
            body=orjson.dumps({"error": words}), status=status, content_type="application/json"
        )
        response.force_close()
        return response


class PlainServer(web.Server):
    """A server that calls one function for every request."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.Response]]) -> None:
        super().__init__(answer)

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Protocol(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]  # means none, as everywhere in aiohttp
            auto_decompress=False,
        )
