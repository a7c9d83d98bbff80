"""Traffic on demand: one run of an event stream at a time, controlled over HTTP.

GET   /_sandbox/onesignal                state and oracle
GET   /_sandbox/onesignal/acknowledged   ?after= &limit=  ids answered with 2xx
POST  /_sandbox/onesignal/start          {"events": 1000, "rate_per_s": 50, …}
POST  /_sandbox/onesignal/stop
POST  /_sandbox/onesignal/enable
"""

from itertools import islice
from random import Random
from typing import Literal

import anyio
from aiohttp import web
from anyio.abc import TaskStatus
from pydantic import Field

from relay.clock import Clock
from relay.errors import RelayError
from relay.events.catalog import KINDS, SEED_KINDS
from relay.sandbox.common.control_api import (
    Page,
    add_routes,
    check,
    json_response,
    paged,
    read_body,
    refuse,
    show_state,
)
from relay.sandbox.common.replies import JsonObject
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.event_stream import EventStream, StreamOptions
from relay.sandbox.onesignal.liquid import TemplateError
from relay.sandbox.onesignal.traffic import Traffic, TrafficOptions


class SourceConflict(RelayError):
    """The source cannot do this in its present state."""


class TrafficOrder(StreamOptions):
    """One run.

    Attributes:
        events: Number of events, without their duplicates.
        seed: The same seed gives the same events; another one new events.
        users: Number of users.
        kinds: `seed` for the 21 kinds of the built-in integration, `all` for 26, or a list.
        url: The hook to send to; None = the sandbox's own target.
        token: Its token.
        app_id: The OneSignal app that the events name.
    """

    events: int = Field(default=1_000, ge=1)
    seed: int = 1
    users: int = Field(default=50, ge=2)
    kinds: Literal["seed", "all"] | tuple[str, ...] = "seed"
    url: str | None = None
    token: str | None = None
    app_id: str | None = None

    def wanted_kinds(self) -> frozenset[str]:
        """Return the kinds that are sent."""
        if self.kinds == "seed":
            return frozenset(SEED_KINDS)
        return frozenset(KINDS if self.kinds == "all" else self.kinds)


class _IdPage(Page):
    limit: int = Field(default=1_000, ge=1, le=100_000)


class TrafficSource:
    """OneSignal's event stream in the sandbox."""

    def __init__(self, target: Target | None, app_id: str, clock: Clock) -> None:
        self._target = target
        self._app_id = app_id
        self._clock = clock
        self._ordered = anyio.Event()
        self._order: TrafficOrder | None = None
        self._run_scope: anyio.CancelScope | None = None
        self._stream: EventStream | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Execute orders until cancelled."""
        task_status.started()
        while True:
            await self._ordered.wait()
            self._ordered = anyio.Event()
            if self._order is not None and self._stream is not None:
                with anyio.CancelScope() as scope:
                    self._run_scope = scope
                    await self._execute(self._order, self._stream)
            self._order = self._run_scope = None

    async def _execute(self, order: TrafficOrder, stream: EventStream) -> None:
        options = TrafficOptions(
            app_id=order.app_id or self._app_id,
            kinds=order.wanted_kinds(),
            users=order.users,
            starts_at=self._clock.now_ms(),
        )
        traffic = Traffic(options, Random(order.seed))  # noqa: S311 - traffic, not secrets
        async with stream:
            await stream.send(islice(traffic.events(), order.events))

    def start(self, order: TrafficOrder) -> None:
        """Start a run.

        Raises:
            SourceConflict: If one is in progress, the stream is off, or there is no target.
            relay.sandbox.onesignal.liquid.TemplateError: If the order's template is not
                understood.
        """
        if self._order is not None:
            raise SourceConflict("traffic is running: stop it first")
        if self._stream is not None and not self._stream.is_on:
            # Like OneSignal: somebody has to look why before events flow again.
            raise SourceConflict("the stream was switched off: enable it first")
        if not order.wanted_kinds() & KINDS:
            raise SourceConflict("none of these kinds is ever sent")
        if not order.url and self._target is None:
            raise SourceConflict("no target: give a url")
        target = (self._target or Target("")).redirected(order.url, order.token)
        rng = Random(order.seed)  # noqa: S311 - traffic, not secrets
        self._stream = EventStream(target, order, rng=rng, clock=self._clock)
        self._order = order
        self._ordered.set()

    def mount_control(self, app: web.Application) -> None:
        """Add the control routes to an application."""
        add_routes(
            app,
            "/_sandbox/onesignal",
            self.state,
            {
                "GET": show_state,
                "GET /acknowledged": self._show_acknowledged,
                "POST /start": self._start,
                "POST /stop": self._stop,
                "POST /enable": self._enable,
            },
        )

    async def _show_acknowledged(self, request: web.Request) -> JsonObject:
        page = check(_IdPage.model_validate, dict(request.query))
        known = {} if self._stream is None else self._stream.oracle.acknowledged
        return paged(known, page)

    async def _start(self, request: web.Request) -> web.Response:
        order = await read_body(request, TrafficOrder.model_validate_json)
        try:
            self.start(order)
        except SourceConflict as error:
            raise refuse(web.HTTPConflict, str(error)) from error
        except TemplateError as error:
            raise refuse(web.HTTPBadRequest, f"template: {error}") from error
        return json_response(self.state(), status=202)

    async def _stop(self, _request: web.Request) -> None:
        if self._run_scope is not None:
            self._run_scope.cancel()

    async def _enable(self, _request: web.Request) -> None:
        if self._stream is not None:
            self._stream.enable()

    def state(self) -> JsonObject:
        """Return what is in progress, and its results so far."""
        stream = self._stream
        return {
            "running": self._order is not None,
            "order": None if self._order is None else self._order.model_dump(exclude={"token"}),
            "on": stream is None or stream.is_on,
            "consecutive_failures": 0 if stream is None else stream.consecutive_failures,
            "oracle": None if stream is None else stream.oracle.summary(),
        }
