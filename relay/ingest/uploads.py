"""From an upload whose sender is known to rows on disk."""

from secrets import token_bytes

import anyio
import anyio.lowlevel

from relay.clock import Clock
from relay.errors import PayloadError
from relay.events.batch import IngestBatch
from relay.events.texts import text_of
from relay.ingest.events import TURN_EVENTS, EventIngest, Source
from relay.ingest.upload_events import Receipt, check_events, map_events
from relay.ingest.upload_request import JsonObject, UploadApi, read_upload
from relay.ingest.upload_responses import INVALID_JSON, UploadResponse, bad_request, ingested

_NONCE_BYTES = 16


class UploadIngest:
    """Stores the events of uploads; the directory does not observe them."""

    def __init__(self, ingest: EventIngest, clock: Clock) -> None:
        self._ingest = ingest
        self._clock = clock

    async def receive(
        self, source: Source, api: UploadApi, document: JsonObject, size_bytes: int
    ) -> UploadResponse:
        """Store the events of a request, all or none, and return once they are on disk.

        Args:
            source: The app that the request's key belongs to.
            api: The API it came by.
            document: The request.
            size_bytes: The size of its body.

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
        batch = IngestBatch(source.no, self._clock.now_ms())
        receipt = Receipt(batch.received_at, token_bytes(_NONCE_BYTES))
        try:
            for number, event in enumerate(map_events(events, receipt), start=1):
                batch.events.append(event)
                if number % TURN_EVENTS == 0:
                    await anyio.lowlevel.checkpoint()
        except PayloadError:
            return bad_request(INVALID_JSON)
        # The id as given decides who is forgotten, even where it is too short to be sent on.
        batch.users = [text_of(event.get("user_id")) for event in upload.events]
        await self._ingest.store(source, batch)
        return ingested(len(events), size_bytes, batch.received_at)
