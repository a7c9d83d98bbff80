"""One app's delivery: its senders, and what others may ask of them."""

from dataclasses import dataclass
from random import Random

import anyio
from anyio.abc import TaskStatus

from relay.clock import Clock
from relay.delivery.batching import BatchLimits, LearnedLimits
from relay.delivery.concurrency import Concurrency
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.gate import Gate
from relay.delivery.line import DeliveryMeter, DeliveryPolicy, Line, Uploader
from relay.delivery.refusals import Refusals
from relay.delivery.sender import Sender
from relay.delivery.stop import Stop
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Claims


@dataclass(frozen=True, slots=True)
class DeliverySetup:
    """What an app's delivery is built from.

    Attributes:
        app: The app's name.
        no: Its number in the outbox.
        senders: How many uploads may be under way at once, at most.
        limits: Of one upload.
        linger_s: The longest a lone event waits for company.
        halt_probe_s: How often a halted app is tried.
        policy: Waits and ages.
        is_paused: Whether a person had paused it.
    """

    app: str
    no: int
    senders: int
    limits: BatchLimits
    linger_s: float
    halt_probe_s: float
    policy: DeliveryPolicy
    is_paused: bool


class Delivery:
    """Takes an app's events out of the outbox; knows nothing of other apps.

    Attributes:
        gate: Whether and why uploads stand still.
        dispatcher: What waits and what is under way.
        heartbeats: A sign of life of each sender.
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
        self._setup = setup
        self._stop = Stop()
        self._limits = LearnedLimits(setup.limits)
        self.gate = Gate(
            setup.policy.backoff,
            Concurrency(setup.senders),
            halt_probe_s=setup.halt_probe_s,
            clock=clock,
            rng=rng,
        )
        self.gate.is_paused = setup.is_paused
        self.dispatcher = Dispatcher(
            claims, setup.no, self.gate, self._limits, linger_s=setup.linger_s, clock=clock
        )
        self.heartbeats = [Heartbeat(clock) for _ in range(setup.senders)]
        self._line = Line(
            app=setup.app,
            claims=claims,
            dispatcher=self.dispatcher,
            uploader=uploader,
            gate=self.gate,
            limits=self._limits,
            refusals=Refusals(),
            policy=setup.policy,
            meter=meter,
            clock=clock,
            rng=rng,
            stop=self._stop,
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the senders until `drain` is called and what they carry is settled."""
        async with anyio.create_task_group() as group:
            for number, heartbeat in enumerate(self.heartbeats, start=1):
                name = f"sender {number} of {self._setup.app}"
                await group.start(Sender(self._line, heartbeat).run, name=name)
            task_status.started()

    def adjust(self, setup: DeliverySetup) -> None:
        """Go on as another setup says; its app, its senders and a pause stay as they are."""
        self.gate.adjust(setup.policy.backoff, setup.halt_probe_s)
        self._limits.configure(setup.limits)
        self.dispatcher.adjust(setup.linger_s)
        self._line.policy = setup.policy

    def drain(self) -> None:
        """Claim nothing more; settle what is under way."""
        self._stop.request()
