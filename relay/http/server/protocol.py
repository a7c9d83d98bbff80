"""aiohttp's server, made fit for whoever connects.

By itself aiohttp answers what it cannot parse with a text that quotes it, and logs the same
with a traceback: both would hold parts of payloads and tokens. It waits for the head of a request,
and for a reader of its answers, for as long as they like, and it takes in requests by the dozen
before the first is answered.
"""

from asyncio import AbstractEventLoop, BaseTransport, TimerHandle, Transport
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from math import inf
from typing import TypeAlias

import orjson
import structlog
from aiohttp import web
from aiohttp.http import HttpVersion10, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from relay.http.server.connections import Connections

log = structlog.get_logger(__name__)

LINGER_S = 2.0
"""For the rest of a body that nobody wants; without it the answer could be lost on its way."""

READ_BYTES = 64 * 1024
"""Of a body, held for a handler that is slower than its sender; twice that at most."""

WAITING_REQUESTS = 2
"""Of one connection, behind the one that is being answered: then no more is read from it."""

FLUSH_S = 5.0
"""For the rest of an answer to be taken once a connection is to be closed."""

Answer: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ServerProtocol(RequestHandler):
    """One connection of a door."""

    __slots__ = (
        "_body",
        "_check",
        "_connections",
        "_flush_ends_s",
        "_head_bytes",
        "_head_ends_s",
        "_stall_ends_s",
        "_unread_bytes",
        "_wire",
    )

    def __init__(
        self, server: web.Server, connections: Connections, loop: AbstractEventLoop
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=connections.patience.idle_s,
            access_log=None,  # type: ignore[arg-type]  # means none, as everywhere in aiohttp
            auto_decompress=False,
            lingering_time=LINGER_S,
            read_bufsize=READ_BYTES,
        )
        self._max_msg_queue_size = WAITING_REQUESTS
        self._msg_queue_resume_size = WAITING_REQUESTS - 1
        self._connections = connections
        self._wire: Transport | None = None
        self._check: TimerHandle | None = None
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        self._unread_bytes = 0
        self._head_ends_s = self._stall_ends_s = self._flush_ends_s = inf

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._current_request is not None

    @property
    def is_sending(self) -> bool:
        """Whether the body of the last request is still coming."""
        return not self._body.is_eof()

    def cut(self) -> None:
        """Close the connection at once, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._wire = self.transport
        patience = self._connections.patience
        self._head_ends_s = self._loop.time() + patience.head_s
        self._check = self._loop.call_later(patience.check_s, self._look)
        self._connections.admit(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self._check is not None:
            self._check.cancel()
        self._connections.forget(self)

    def data_received(self, data: bytes) -> None:
        """Take what came, and keep account of what is still to come."""
        asked, is_head = self._request_count, not self.is_sending
        super().data_received(data)
        if self._request_count != asked:
            self._note_request()
        elif is_head and data:
            self._note_head(len(data))

    def pause_writing(self) -> None:
        """Begin to wait for a reader."""
        super().pause_writing()
        if self._wire is not None:
            self._unread_bytes = self._wire.get_write_buffer_size()
        self._stall_ends_s = self._loop.time() + self._connections.patience.stall_s

    def resume_writing(self) -> None:
        """Go on: the reader has caught up."""
        super().resume_writing()
        self._stall_ends_s = inf

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

    def log_exception(
        self, *_: object, exc_info: BaseException | None = None, **__: object
    ) -> None:
        """Log the kind of error alone; that of a body which broke off is its sender's."""
        is_ours = not isinstance(exc_info, HttpProcessingError)
        write = log.error if is_ours else log.debug
        write("connection.failed", error=type(exc_info).__name__)

    def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Answer
    ) -> Coroutine[None, None, tuple[web.StreamResponse, bool]]:
        """Answer a request; who has sent the next one already can wait."""
        handle = self._handle_in_turn if self._messages else super()._handle_request
        return handle(request, start_time, request_handler)

    async def _handle_in_turn(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Answer
    ) -> tuple[web.StreamResponse, bool]:
        async with self._connections.line:
            if self.transport is None:
                raise ConnectionResetError("nobody is there to be answered any more")
            return await super()._handle_request(request, start_time, request_handler)

    def _note_request(self) -> None:
        message, body = self._messages[-1]
        if isinstance(message, RawRequestMessage):
            self._body = body
            self._head_bytes, self._head_ends_s = 0, inf
            self._connections.asked(self)
            if message.version < HttpVersion10:
                self.cut()  # an answer to HTTP/0.9 has no head, so whose it is cannot be told
        elif self.is_sending:
            # What is not valid is no further request but the body of the last one, whose reader
            # would wait for the rest; and of one request's two answers the second is another's.
            self._messages.pop()
            self._body.set_exception(TransferEncodingError("the body is not valid HTTP"))
            self.close()

    def _note_head(self, size: int) -> None:
        patience = self._connections.patience
        self._head_bytes += size
        if self._head_bytes > patience.head_bytes:
            self.cut()
        elif self._head_ends_s == inf:
            self._head_ends_s = self._loop.time() + patience.head_s

    def _look(self) -> None:
        """Cut the connection if it has been waited for too long, else look again later."""
        if self._wire is None:
            return
        if self._is_overdue(self._wire, self._loop.time()):
            self.cut()
        self._check = self._loop.call_later(self._connections.patience.check_s, self._look)

    def _is_overdue(self, wire: Transport, now_s: float) -> bool:
        patience = self._connections.patience
        if wire.is_closing():
            self._flush_ends_s = min(self._flush_ends_s, now_s + FLUSH_S)
            return now_s >= self._flush_ends_s
        if self.writing_paused:
            unread_bytes = wire.get_write_buffer_size()
            if unread_bytes <= self._unread_bytes - patience.progress_bytes:
                self._unread_bytes = unread_bytes
                self._stall_ends_s = now_s + patience.stall_s
            return now_s >= self._stall_ends_s
        return now_s >= self._head_ends_s and not self.is_busy


class ProtocolServer(web.Server):
    """Serves the connections of one door.

    Attributes:
        guests: Who is connected.
    """

    def __init__(self, answer: Answer, guests: Connections) -> None:
        """Make a server.

        Args:
            answer: Answers every request.
            guests: Who is connected.
        """
        super().__init__(answer)
        self.guests = guests

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return ServerProtocol(self, self.guests, self._loop)
