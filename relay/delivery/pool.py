"""The senders of one app: each claims one batch after the other and delivers it."""

from dataclasses import dataclass
from random import Random

import anyio
from anyio.abc import TaskStatus

from relay.clock import Clock
from relay.delivery.batching import BatchLimits, LearnedLimits
from relay.delivery.circuit_breaker import AdaptiveLimit, CircuitBreaker
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.poison import PoisonDetector
from relay.delivery.policy import DeliveryMeter, DeliveryPolicy, SenderContext, Uploader
from relay.delivery.shutdown import ShutdownSignal
from relay.delivery.worker import IDLE_SILENCE_S, STORE_RETRY_S, BatchDelivery
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Claims, Waiting


@dataclass(frozen=True, slots=True)
class DeliverySetup:
    """How one app's events are delivered.

    Attributes:
        app: The app's name.
        no: Its number in the outbox.
        senders: Most uploads in flight at once.
        limits: Of one upload.
        linger_s: The longest a lone event waits for others.
        halt_probe_s: Seconds between two probes of a halted app.
        policy: Waits and ages.
        is_paused: Whether the operator paused it before this process started.
    """

    app: str
    no: int
    senders: int
    limits: BatchLimits
    linger_s: float
    halt_probe_s: float
    policy: DeliveryPolicy
    is_paused: bool


class Sender:
    """Claims and delivers one batch at a time; at shutdown its open claim stays on disk."""

    def __init__(self, context: SenderContext, heartbeat: Heartbeat) -> None:
        self._context = context
        self._heartbeat = heartbeat

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Claim and deliver until shutdown is requested."""
        context = self._context
        task_status.started()
        while not context.shutdown.is_requested:
            self._heartbeat.beat(IDLE_SILENCE_S)
            events: list[Waiting] = []
            with context.shutdown.interruptible(), anyio.move_on_after(IDLE_SILENCE_S):
                events = await context.dispatcher.next_batch()
            if events:
                await self._deliver(events)

    async def _deliver(self, events: list[Waiting]) -> None:
        # Not interruptible: the events are in flight from here on, and must not be lost there.
        try:
            claim = await self._context.dispatcher.claim(events)
        except StoreFull:
            await anyio.sleep(STORE_RETRY_S)
        else:
            await BatchDelivery(self._context, claim, self._heartbeat).run()


class SenderPool:
    """Delivers one app's events, independently of other apps.

    Attributes:
        breaker: Whether uploads may go, and why not.
        dispatcher: Which events wait and which are in flight.
        heartbeats: Of each sender.
    """

    def __init__(
        self,
        setup: DeliverySetup,
        claims: Claims,
        uploader: Uploader,
        meter: DeliveryMeter,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._app = setup.app
        self._shutdown = ShutdownSignal()
        self._limits = LearnedLimits(setup.limits)
        self.breaker = CircuitBreaker(
            setup.policy.backoff,
            AdaptiveLimit(setup.senders),
            halt_probe_s=setup.halt_probe_s,
            clock=clock,
            rng=rng,
        )
        self.breaker.is_paused = setup.is_paused
        self.dispatcher = Dispatcher(
            claims, setup.no, self.breaker, self._limits, linger_s=setup.linger_s, clock=clock
        )
        self.heartbeats = [Heartbeat(clock) for _ in range(setup.senders)]
        self._context = SenderContext(
            app=setup.app,
            claims=claims,
            dispatcher=self.dispatcher,
            uploader=uploader,
            breaker=self.breaker,
            limits=self._limits,
            poison=PoisonDetector(),
            policy=setup.policy,
            meter=meter,
            clock=clock,
            rng=rng,
            shutdown=self._shutdown,
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the senders until `drain` is called and their claims are settled."""
        async with anyio.create_task_group() as group:
            for number, heartbeat in enumerate(self.heartbeats, start=1):
                name = f"sender {number} of {self._app}"
                await group.start(Sender(self._context, heartbeat).run, name=name)
            task_status.started()

    def configure(self, setup: DeliverySetup) -> None:
        """Apply another setup; the app, the number of senders and a pause stay as they are."""
        self.breaker.configure(setup.policy.backoff, setup.halt_probe_s)
        self._limits.configure(setup.limits)
        self.dispatcher.configure(setup.linger_s)
        self._context.policy = setup.policy

    def drain(self) -> None:
        """Claim nothing more; settle what is in flight."""
        self._shutdown.request()
