"""Amplitude's cohort webhook: bytes to an applied message, or to quarantine."""

from collections.abc import Mapping

import structlog

from relay.amplitude.cohort_message import CohortMessage, parse_message
from relay.clock import Clock
from relay.errors import PayloadError
from relay.events.batch import IngestBatch, QuarantinedBody
from relay.outbox.quarantine import Quarantine, Quarantined
from relay.outbox.selection import Selection
from relay.outbox.writer import OutboxWriter
from relay.segments.guard import GuardPolicy
from relay.segments.store import Segments
from relay.segments.webhook import MessageAnswer

log = structlog.get_logger(__name__)

HOOK = "cohorts"


class CohortWebhook:
    """Applies the bodies of the cohorts webhook.

    Attributes:
        guard: Which removals are held; it may be replaced at any time.
    """

    def __init__(
        self,
        segments: Segments,
        writer: OutboxWriter,
        numbers: Mapping[str, int],
        guard: GuardPolicy,
        clock: Clock,
    ) -> None:
        """Make the webhook of all apps.

        Args:
            segments: Where messages are applied.
            writer: Stores quarantined bodies.
            numbers: The apps' numbers in the outbox.
            guard: Which removals are held.
            clock: The time.
        """
        self._segments = segments
        self._writer = writer
        self._numbers = numbers
        self.guard = guard
        self._clock = clock

    async def receive(self, app: str, body: bytes) -> MessageAnswer:
        """Apply a message and return once that is on disk.

        Raises:
            PayloadError: If it is not understood; it is in quarantine then.
            StoreFull: If there is no room; nothing of the message is applied.
            StoreFailed: If the disk failed; the process must end.
        """
        try:
            message = parse_message(body)
        except PayloadError as error:
            await self.quarantine(app, body, error)
            raise
        answer = await self._apply(app, message)
        log.info("cohort_message.taken", app=app, **answer._asdict())
        return answer

    async def retry(
        self, quarantine: Quarantine, selection: Selection, *, dry_run: bool = False
    ) -> int:
        """Read quarantined messages again, and apply those that are understood now.

        Returns:
            How many bodies left the quarantine, or would.
        """
        affected = 0
        async for ids in quarantine.walk(selection):
            async for body in quarantine.named(ids):
                message = self._understand(body)
                if message is None:
                    continue
                if not dry_run:
                    # Its message id makes a repetition harmless, should relay end before `remove`.
                    await self._apply(body.app, message)
                    await quarantine.remove([body.id])
                affected += 1
        return affected

    def _understand(self, body: Quarantined) -> CohortMessage | None:
        if body.hook != HOOK or body.app not in self._segments.cohorts.apps:
            return None
        try:
            return parse_message(body.body)
        except PayloadError:
            return None

    async def _apply(self, app: str, message: CohortMessage) -> MessageAnswer:
        number = self._segments.cohorts.number(app)
        return await self._segments.webhook.apply(number, message, self.guard, self._clock.now_ms())

    async def quarantine(self, app: str, body: bytes, error: PayloadError) -> None:
        """Put a body into quarantine."""
        batch = IngestBatch(self._numbers[app], self._clock.now_ms())
        batch.quarantined.append(QuarantinedBody(HOOK, error.reason, error.detail, body))
        await self._writer.append(batch)
