"""A sender: claims one batch after the other and delivers it."""

import anyio
from anyio.abc import TaskStatus

from relay.delivery.policy import SenderContext
from relay.delivery.worker import IDLE_SILENCE_S, STORE_RETRY_S, BatchDelivery
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Waiting


class Sender:
    """One of an app's senders."""

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
