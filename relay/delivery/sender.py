"""A sender: claims one batch after the other and delivers it."""

import anyio
from anyio.abc import TaskStatus

from relay.delivery.policy import SenderContext
from relay.delivery.worker import IDLE_SILENCE_S, STORE_RETRY_S, BatchDelivery
from relay.errors import StoreFull
from relay.outbox.claims import Waiting
from relay.pulse import Pulse


class Sender:
    """One of an app's senders."""

    def __init__(self, context: SenderContext, pulse: Pulse) -> None:
        self._context = context
        self._pulse = pulse

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Claim and deliver until shutdown is requested."""
        context = self._context
        task_status.started()
        while not context.shutdown.is_requested:
            self._pulse.beat(IDLE_SILENCE_S)
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
            await BatchDelivery(self._context, claim, self._pulse).run()
