"""Between a stand-in's decision and the wire: the fault of the moment, the log, the bytes."""

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Final, Generic, TypeVar

import anyio
import anyio.lowlevel
from aiohttp import hdrs, web
from pydantic import BaseModel

from relay.clock import Clock, SystemClock
from relay.sandbox.common.active_faults import ActiveFaults, FaultT
from relay.sandbox.common.faults import ApiFault, Operation
from relay.sandbox.common.replies import Answer, Download, JsonObject, Reply

ConditionsT = TypeVar("ConditionsT", bound=BaseModel)
CALLS_KEPT: Final = 100_000
NO_ANSWER: Final = 0
_DRIP_BYTES: Final = 64
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


def respond(answer: Answer) -> web.Response:
    """Return an answer as aiohttp sends it."""
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers=answer.headers,
    )


class Responder(Generic[FaultT]):
    """Answers as a stand-in decides, or as the fault of the moment demands.

    Attributes:
        faults: What is switched on.
    """

    def __init__(self, faults: ActiveFaults[FaultT]) -> None:
        self.faults = faults
        self._closing = anyio.Event()

    def mount(self, app: web.Application) -> None:
        """Add the stand-in to an application; what waits is released when it shuts down."""
        closing = self._closing = anyio.Event()

        async def close(_app: web.Application) -> None:
            closing.set()

        app.on_shutdown.append(close)

    async def answer(
        self,
        request: web.Request,
        fault: FaultT | None,
        decide: Callable[[], Reply],
        wording: Callable[[str], Answer | None],
        log: Callable[[int], None],
    ) -> web.StreamResponse:
        """Carry a request out and answer it.

        Args:
            request: The request.
            fault: What it meets.
            decide: Carries it out; not called if the fault comes before.
            wording: Returns the service's own answer to a fault of this name.
            log: Receives the status just before it is sent, 0 if there is none.
        """
        if fault is None:
            return await self._send(request, decide(), log)
        reply = decide() if fault.stored else None
        if fault.name == "slow":
            await self._wait(fault.delay_s)
        if fault.name in ("slow", "drip"):
            drip_s = fault.delay_s if fault.name == "drip" else None
            return await self._send(request, decide() if reply is None else reply, log, drip_s)
        answer = fault.answer(wording)
        if answer is None:
            # Logged before the wait: a reader of the log must see requests that hang.
            log(NO_ANSWER)
            if fault.name == "hang":
                await self._wait(None)
            return _reset(request)
        if fault.name == "200_cut":
            body = reply.body if isinstance(reply, Answer) else answer.body
            cut = Download(lambda: [body], "plain", "length", answer.content_type)
            return await self._send(request, cut, log)
        return await self._send(request, answer, log)

    async def _send(
        self,
        request: web.Request,
        reply: Reply,
        log: Callable[[int], None],
        drip_s: float | None = None,
    ) -> web.StreamResponse:
        log(reply.status if isinstance(reply, Answer) else 200)
        if isinstance(reply, Answer) and drip_s is None:
            return respond(reply)
        if isinstance(reply, Answer):
            response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
            response.content_length = len(reply.body)
            pieces: Iterable[bytes] = (reply.body,)
        else:
            response, pieces = web.StreamResponse(), reply.encoded()
            if reply.encoding == "gzip":
                response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.content_type = reply.content_type
        breaks_off = isinstance(reply, Download) and reply.cut in ("length", "chunked")
        if breaks_off:
            # Cut in the middle, in front of an announced length or the last chunk.
            whole = b"".join(pieces)
            pieces = (whole[: len(whole) // 2],)
            if isinstance(reply, Download) and reply.cut == "length":
                response.content_length = len(whole)
        await response.prepare(request)
        for piece in pieces if drip_s is None else _drops(pieces):
            await response.write(piece)
            await (anyio.lowlevel.checkpoint() if drip_s is None else self._wait(drip_s))
        if breaks_off and request.transport is not None:
            request.transport.close()
        return response

    async def _wait(self, seconds: float | None) -> None:
        """Wait for `seconds` (None = for ever), until faults are cleared, or until closed."""
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for event in (self._closing, self.faults.cleared):
                    tasks.start_soon(_cancel_after, event, tasks.cancel_scope)


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _drops(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from (piece[at : at + _DRIP_BYTES] for at in range(0, len(piece), _DRIP_BYTES))


def _reset(request: web.Request) -> web.Response:
    """Break the connection with a TCP reset; the returned response is never sent."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            # Without lingering the kernel sends RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    return web.Response(status=500)


@dataclass(slots=True)
class Call:
    """One request of the log.

    Attributes:
        at: When it came, UTC epoch milliseconds.
        operation: What was asked for.
        account: API key of the project, or id of the app; empty if unknown.
        cohort_id: The cohort it is about; empty if none.
        status: HTTP status that was answered; 0 if none was.
        fault: Name of the fault it met.
        has_credentials: Whether it carried an `Authorization` header.
    """

    at: int
    operation: Operation
    account: str = ""
    cohort_id: str = ""
    status: int = NO_ANSWER
    fault: str | None = None
    has_credentials: bool = False

    def as_json(self) -> JsonObject:
        """Return the line as the control API shows it."""
        shown = asdict(self)
        # Scripts read the fault under this name.
        shown["mishap"] = shown.pop("fault")
        return shown


class ApiStandIn(Responder[ApiFault], Generic[ConditionsT]):
    """A service that is asked for lists and files; it keeps a log of its requests.

    Attributes:
        conditions: What holds until changed; change its fields or replace it.
        requests: The last 100,000 requests, oldest first.
    """

    def __init__(self, conditions: type[ConditionsT], clock: Clock | None) -> None:
        self._clock: Clock = clock or SystemClock()
        super().__init__(ActiveFaults(ApiFault, self._clock))
        self._defaults = conditions
        self.conditions = conditions()
        self.requests: deque[Call] = deque(maxlen=CALLS_KEPT)

    def reset(self) -> None:
        """Forget faults, conditions and the log."""
        self.faults.clear()
        self.conditions = self._defaults()
        self.requests.clear()

    def app(self) -> web.Application:
        """Return an application with this stand-in alone, without its control API."""
        app = web.Application()
        self.mount(app)
        return app

    def log(
        self, request: web.Request, operation: Operation, account: str = "", cohort_id: str = ""
    ) -> Call:
        """Return a new line of the log, without its answer."""
        has_credentials = hdrs.AUTHORIZATION in request.headers
        call = Call(
            self._clock.now_ms(), operation, account, cohort_id, has_credentials=has_credentials
        )
        self.requests.append(call)
        return call

    async def complete(
        self,
        request: web.Request,
        call: Call,
        decide: Callable[[], Reply],
        refuse: Callable[[int], Answer],
    ) -> web.StreamResponse:
        """Answer a request and complete its line of the log; `refuse` words a status."""
        fault = self.faults.consume(
            lambda fault: (
                fault.operation in (None, call.operation)
                and fault.cohort_id in (None, call.cohort_id)
            )
        )
        call.fault = None if fault is None else fault.name

        def wording(name: str) -> Answer | None:
            return refuse(int(name)) if name.isdecimal() else None

        def log(status: int) -> None:
            call.status = status

        return await self.answer(request, fault, decide, wording, log)
