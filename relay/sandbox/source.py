"""Traffic on demand: one run of an event stream at a time, started and stopped from outside."""

from itertools import islice
from random import Random
from typing import Literal

import anyio
from anyio.abc import TaskStatus
from pydantic import Field

from relay.clock import Clock
from relay.errors import RelayError
from relay.events.catalog import KINDS, SEED_KINDS
from relay.sandbox.answers import JsonObject
from relay.sandbox.onesignal import EventStream, StreamOptions, Target
from relay.sandbox.traffic import Scenery, Traffic


class SourceConflict(RelayError):
    """The source cannot do this in its present state."""


class TrafficOrder(StreamOptions):
    """One run.

    Attributes:
        events: Number of events, without their duplicates.
        seed: The same seed gives the same events; another one new events.
        users: Number of users.
        kinds: `seed` for the 21 kinds of the built-in integration, `all` for 26, or a list.
        url: The hook to send to; None = as the sandbox was started.
        token: Its token.
        app_id: The OneSignal app the events name.
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


class TrafficSource:
    """OneSignal's side of the sandbox."""

    def __init__(self, target: Target | None, app_id: str, clock: Clock) -> None:
        self._target = target
        self._app_id = app_id
        self._clock = clock
        self._ordered = anyio.Event()
        self._order: TrafficOrder | None = None
        self._run_scope: anyio.CancelScope | None = None
        self._stream: EventStream | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Carry out orders until cancelled."""
        task_status.started()
        while True:
            await self._ordered.wait()
            self._ordered = anyio.Event()
            if self._order is not None and self._stream is not None:
                with anyio.CancelScope() as scope:
                    self._run_scope = scope
                    await self._carry_out(self._order, self._stream)
            self._order = self._run_scope = None

    async def _carry_out(self, order: TrafficOrder, stream: EventStream) -> None:
        scenery = Scenery(
            app_id=order.app_id or self._app_id,
            kinds=order.wanted_kinds(),
            users=order.users,
            starts_at=self._clock.now_ms(),
        )
        traffic = Traffic(scenery, Random(order.seed))  # noqa: S311 - traffic, not secrets
        async with stream:
            await stream.send(islice(traffic.events(), order.events))

    def start(self, order: TrafficOrder) -> None:
        """Begin a run.

        Raises:
            SourceConflict: If one is going on, the stream is off, or nothing says where to.
            relay.sandbox.liquid.TemplateError: If the order's template is not understood.
        """
        if self._order is not None:
            raise SourceConflict("traffic is running: stop it first")
        if self._stream is not None and not self._stream.is_on:
            raise SourceConflict("the stream was switched off: enable it first")
        if not order.wanted_kinds() & KINDS:
            raise SourceConflict("none of these kinds is ever sent")
        rng = Random(order.seed)  # noqa: S311 - traffic, not secrets
        self._stream = EventStream(self._aim(order), order, rng=rng, clock=self._clock)
        self._order = order
        self._ordered.set()

    def _aim(self, order: TrafficOrder) -> Target:
        usual = self._target
        url = order.url or (usual.url if usual is not None else None)
        if url is None:
            raise SourceConflict("no target: give a url")
        usual_token = usual.token if usual is not None else ""
        return Target(url, usual_token if order.token is None else order.token)

    def stop(self) -> None:
        """End the run; nothing happens if none is going on."""
        if self._run_scope is not None:
            self._run_scope.cancel()

    def enable(self) -> None:
        """Switch the stream on again after it was switched off."""
        if self._stream is not None:
            self._stream.enable()

    def acknowledged(self) -> list[str]:
        """Return the ids of the present or last run that were acknowledged, in that order."""
        return [] if self._stream is None else list(self._stream.oracle.acknowledged)

    def state(self) -> JsonObject:
        """Return what is going on and what came of it."""
        stream = self._stream
        return {
            "running": self._order is not None,
            "order": None if self._order is None else self._order.model_dump(exclude={"token"}),
            "on": stream is None or stream.is_on,
            "consecutive_failures": 0 if stream is None else stream.consecutive_failures,
            "oracle": None if stream is None else stream.oracle.summary(),
        }
