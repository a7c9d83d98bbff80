"""aiohttp's connection, bounded: timeouts, a connection limit, and errors that quote nothing.

aiohttp answers what it cannot parse with a text that quotes it, and logs the same with a
traceback: both would hold parts of payloads and tokens. It has no timeout for the head of a
request or for a client that does not read, and it reads dozens of pipelined requests before the
first is answered.

This module relies on private names of aiohttp's server, as no public ones exist for any of it;
`tests/unit/http/test_aiohttp_contract.py` lists them and says what breaks without each.
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
"""For the rest of a body that is not read; closing earlier could lose the answer (TCP reset)."""

READ_BYTES = 64 * 1024
"""Of a body, buffered while its handler is slower than its client; twice that at most."""

WAITING_REQUESTS = 2
"""Pipelined on one connection behind the request in flight; at that number reading pauses."""

FLUSH_S = 5.0
"""For the client to read the rest of an answer once the connection is closing."""

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
        "_tcp",
        "_unread_bytes",
    )

    def __init__(
        self, server: web.Server, connections: Connections, loop: AbstractEventLoop
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=connections.timeouts.idle_s,
            access_log=None,  # type: ignore[arg-type]  # means none, as everywhere in aiohttp
            auto_decompress=False,
            lingering_time=LINGER_S,
            read_bufsize=READ_BYTES,
        )
        self._max_msg_queue_size = WAITING_REQUESTS
        self._msg_queue_resume_size = WAITING_REQUESTS - 1
        self._connections = connections
        self._tcp: Transport | None = None
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

    def abort(self) -> None:
        """Close the connection at once, whatever is in flight."""
        if self._tcp is not None:
            self._tcp.abort()

    def connection_made(self, transport: BaseTransport) -> None:
        """Count the connection and start the timeout of its first head."""
        super().connection_made(transport)
        self._tcp = self.transport
        timeouts = self._connections.timeouts
        self._head_ends_s = self._loop.time() + timeouts.head_s
        self._check = self._loop.call_later(timeouts.check_s, self._check_timeouts)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting the connection and checking its timeouts."""
        super().connection_lost(exc)
        if self._check is not None:
            self._check.cancel()
        self._connections.remove(self)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and track which part of a request is still missing."""
        requests, is_head = self._request_count, not self.is_sending
        super().data_received(data)
        if self._request_count != requests:
            self._note_request()
        elif is_head and data:
            self._note_head(len(data))

    def pause_writing(self) -> None:
        """Start the timeout of a client that does not read."""
        super().pause_writing()
        if self._tcp is not None:
            self._unread_bytes = self._tcp.get_write_buffer_size()
        self._stall_ends_s = self._loop.time() + self._connections.timeouts.stall_s

    def resume_writing(self) -> None:
        """End that timeout: the client has caught up."""
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
        """Log the kind of error alone, at debug level if the client caused it."""
        is_ours = not isinstance(exc_info, HttpProcessingError)
        write = log.error if is_ours else log.debug
        write("connection.failed", error=type(exc_info).__name__)

    def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Answer
    ) -> Coroutine[None, None, tuple[web.StreamResponse, bool]]:
        """Answer a request; one with another pipelined behind it waits for the semaphore."""
        handle = self._handle_pipelined if self._messages else super()._handle_request
        return handle(request, start_time, request_handler)

    async def _handle_pipelined(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Answer
    ) -> tuple[web.StreamResponse, bool]:
        async with self._connections.pipelining:
            if self.transport is None:
                raise ConnectionResetError("the client has disconnected")
            return await super()._handle_request(request, start_time, request_handler)

    def _note_request(self) -> None:
        message, body = self._messages[-1]
        if isinstance(message, RawRequestMessage):
            self._body = body
            self._head_bytes, self._head_ends_s = 0, inf
            self._connections.mark_active(self)
            if message.version < HttpVersion10:
                self.abort()  # an HTTP/0.9 answer has no head: it could be taken for another one
        elif self.is_sending:
            # The parser reports garbage as one more request. It is the broken rest of the last
            # request's body: its handler must fail instead of waiting for more, and one request
            # must not get two answers, as the second would be read as another request's.
            self._messages.pop()
            self._body.set_exception(TransferEncodingError("the body is not valid HTTP"))
            self.close()

    def _note_head(self, size: int) -> None:
        timeouts = self._connections.timeouts
        self._head_bytes += size
        if self._head_bytes > timeouts.head_bytes:
            self.abort()
        elif self._head_ends_s == inf:
            self._head_ends_s = self._loop.time() + timeouts.head_s

    def _check_timeouts(self) -> None:
        """Abort the connection if a timeout has expired, else check again later."""
        if self._tcp is None:
            return
        if self._is_overdue(self._tcp, self._loop.time()):
            self.abort()
        self._check = self._loop.call_later(
            self._connections.timeouts.check_s, self._check_timeouts
        )

    def _is_overdue(self, tcp: Transport, now_s: float) -> bool:
        timeouts = self._connections.timeouts
        if tcp.is_closing():
            self._flush_ends_s = min(self._flush_ends_s, now_s + FLUSH_S)
            return now_s >= self._flush_ends_s
        if self.writing_paused:
            unread_bytes = tcp.get_write_buffer_size()
            if unread_bytes <= self._unread_bytes - timeouts.progress_bytes:
                self._unread_bytes = unread_bytes
                self._stall_ends_s = now_s + timeouts.stall_s
            return now_s >= self._stall_ends_s
        return now_s >= self._head_ends_s and not self.is_busy


class ProtocolServer(web.Server):
    """Serves the connections of one door.

    Attributes:
        door_connections: All of them, bounded.
    """

    def __init__(self, answer: Answer, connections: Connections) -> None:
        super().__init__(answer)
        # `web.Server` has a `connections` property of its own, which lists its protocols.
        self.door_connections = connections

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return ServerProtocol(self, self.door_connections, self._loop)
