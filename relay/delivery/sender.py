"""A sender carries one claim at a time to Amplitude."""

import anyio
from anyio.abc import TaskStatus

from relay.delivery.line import Line
from relay.delivery.trip import IDLE_SILENCE_S, STORE_RETRY_S, Trip
from relay.errors import StoreFull
from relay.heartbeat import Heartbeat
from relay.outbox.claims import Waiting


class Sender:
    """One of an app's senders."""

    def __init__(self, line: Line, heartbeat: Heartbeat) -> None:
        self._line = line
        self._heartbeat = heartbeat

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Carry claims until a stop is requested."""
        line = self._line
        task_status.started()
        while not line.stop.is_requested:
            self._heartbeat.beat(IDLE_SILENCE_S)
            events: list[Waiting] = []
            with line.stop.interruptible(), anyio.move_on_after(IDLE_SILENCE_S):
                events = await line.dispatcher.take()
            if events:
                await self._carry(events)

    async def _carry(self, events: list[Waiting]) -> None:
        """Record the claim, which nothing may interrupt, and go."""
        try:
            claim = await self._line.dispatcher.claim(events)
        except StoreFull:
            await anyio.sleep(STORE_RETRY_S)
        else:
            await Trip(self._line, claim, self._heartbeat).carry()
