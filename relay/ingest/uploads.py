"""From an upload whose sender is known to rows on disk."""

from secrets import token_bytes

import anyio
import anyio.lowlevel

from relay.clock import Clock
from relay.directory.observer import Observer
from relay.errors import PayloadError
from relay.events.texts import text_of
from relay.ingest.events import TURN_EVENTS, Source
from relay.ingest.upload_events import Receipt, check_events, map_events
from relay.ingest.upload_request import JsonObject, Upload, UploadApi, read_upload
from relay.ingest.upload_responses import INVALID_JSON, UploadResponse, bad_request, ingested
from relay.outbox.batch import IngestBatch
from relay.outbox.writer import OutboxWriter

_NONCE_BYTES = 16


class UploadIngest:
    """Takes the events of uploads; the directory learns nothing from them."""

    def __init__(self, intakes: OutboxWriter, clock: Clock, feed: Observer) -> None:
        self._intakes = intakes
        self._clock = clock
        self._feed = feed

    async def receive(
        self, source: Source, api: UploadApi, document: JsonObject, size_bytes: int
    ) -> UploadResponse:
        """Store the events of a request, all or none, and return once they are on disk.

        Args:
            source: The app that the request's key belongs to.
            api: The API it came by.
            document: The request.
            size_bytes: What it measured.

        Raises:
            StoreFull: If there is no room now; nothing of it is kept.
            StoreFailed: If the disk failed; the process must end.
        """
        upload = read_upload(document)
        if isinstance(upload, UploadResponse):
            return upload
        events = check_events(upload, is_batch=api.is_batch)
        if isinstance(events, UploadResponse):
            return events
        intake = IngestBatch(source.no, self._clock.now_ms())
        receipt = Receipt(intake.received_at, token_bytes(_NONCE_BYTES))
        try:
            for number, event in enumerate(map_events(events, receipt), start=1):
                intake.events.append(event)
                if number % TURN_EVENTS == 0:
                    await anyio.lowlevel.checkpoint()
        except PayloadError:
            return bad_request(INVALID_JSON)
        self._leave_out_forgotten(source, intake, upload)
        await self._intakes.append(intake)
        return ingested(len(events), size_bytes, intake.received_at)

    def _leave_out_forgotten(self, source: Source, intake: IngestBatch, upload: Upload) -> None:
        """Do it at the last moment: reading a large body gives others their turn.

        It is the id as it came that counts, also where it is too short to be sent.
        """
        if not self._feed.has_forgotten:
            return
        people = [text_of(event.get("user_id")) for event in upload.events]
        kept = [
            event
            for event, person in zip(intake.events, people, strict=True)
            if not self._feed.is_forgotten(source.app, person)
        ]
        intake.filtered += len(intake.events) - len(kept)
        intake.events = kept
