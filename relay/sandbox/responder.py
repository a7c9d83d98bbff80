"""What stands between a stand-in's decisions and the wire: its log and its mishaps."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio
from aiohttp import web

from relay.clock import Clock
from relay.sandbox.answers import Answer
from relay.sandbox.downloads import Reply, deliver
from relay.sandbox.mishaps import Mishap, MishapBoard, Operation
from relay.sandbox.transport import linger, reset

CALLS_KEPT: Final = 100_000
NO_ANSWER: Final = 0


@dataclass(slots=True)
class Call:
    """One line of the log.

    Attributes:
        at: When, in UTC epoch milliseconds.
        operation: What was asked for.
        account: API key of the project, or id of the app; empty if unknown.
        cohort_id: The cohort it is about; empty if none.
        status: HTTP status that was answered; 0 if none was.
        mishap: Name of the mishap it met.
        has_credentials: Whether it carried an `Authorization` header.
    """

    at: int
    operation: Operation
    account: str = ""
    cohort_id: str = ""
    status: int = NO_ANSWER
    mishap: str | None = None
    has_credentials: bool = False


class Responder:
    """Answers as decided, or as the mishap of the moment will have it.

    Attributes:
        mishaps: What goes wrong at present.
        calls: The last 100,000 requests, oldest first.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closing = anyio.Event()
        self.mishaps = MishapBoard(clock)
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)

    def mount(self, app: web.Application) -> None:
        """Let everything that waits go when `app` shuts down."""
        self._closing = anyio.Event()
        app.on_shutdown.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        self._closing.set()

    def note(self, request: web.Request, operation: Operation, account: str, subject: str) -> Call:
        """Return a new line of the log, whose answer is still open."""
        call = Call(
            self._clock.now_ms(),
            operation,
            account,
            subject,
            has_credentials="Authorization" in request.headers,
        )
        self.calls.append(call)
        return call

    async def answer(
        self,
        request: web.Request,
        call: Call,
        decide: Callable[[], Reply],
        usual: Callable[[int], Answer],
    ) -> web.StreamResponse:
        """Answer a request and complete its line of the log.

        Args:
            request: The request.
            call: Its line.
            decide: Carries the request out; not called if a mishap comes before.
            usual: Makes the service's usual error of a status.
        """
        mishap = self.mishaps.take(call.operation, call.cohort_id)
        if mishap is None:
            return await self._send(request, call, decide())
        call.mishap = mishap.name
        if mishap.name == "slow":
            await self._linger(mishap.delay_s)
        if mishap.is_honest:
            drip_s = mishap.delay_s if mishap.name == "drip" else None
            return await self._send(request, call, decide(), drip_s)
        if mishap.stored:
            decide()
        return await self._misbehave(request, call, mishap, usual)

    async def _misbehave(
        self, request: web.Request, call: Call, mishap: Mishap, usual: Callable[[int], Answer]
    ) -> web.StreamResponse:
        if mishap.status is not None:
            return await self._send(request, call, mishap.answer(usual(mishap.status)))
        if mishap.name == "hang":
            await self._linger(None)
        return reset(request)

    async def _send(
        self, request: web.Request, call: Call, reply: Reply, drip_s: float | None = None
    ) -> web.StreamResponse:
        call.status = reply.status if isinstance(reply, Answer) else 200
        return await deliver(request, reply, drip_s=drip_s, until=self._closing)

    async def _linger(self, seconds: float | None) -> None:
        """Wait for `seconds`, or until mishaps are cleared or the stand-in closes."""
        await linger(seconds, self._closing, self.mishaps.cleared)
