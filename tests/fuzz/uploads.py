"""Promises for any request to relay's own upload API, before it is stored."""

from typing import Final

import orjson

from relay.errors import PayloadError
from relay.events.mapping import MappedEvent, is_refused_id
from relay.ingest.upload_events import REMOTE, Receipt, check_events, map_events
from relay.ingest.upload_request import (
    BATCH,
    HTTP_V2,
    MAX_EVENTS,
    UploadApi,
    UploadRequest,
    keys_named,
    parse_request,
    read_upload,
)
from relay.ingest.upload_responses import UploadResponse
from tests.fuzz.reasons import known

RECEIPT: Final = Receipt(1_767_261_906_412, b"0123456789abcdef")
STATUSES: Final = {400, 413}


def check_own_upload(data: bytes) -> None:
    """A request is rejected whole as Amplitude does, or each event is kept, always alike."""
    for key in keys_named(data):
        assert key
    request = parse_request(data)
    if isinstance(request, UploadResponse):
        _check_refusal(request)
        return
    for api in (HTTP_V2, BATCH):
        kept = _kept(request, api)
        again = parse_request(data)
        assert isinstance(again, UploadRequest)
        assert kept == _kept(again, api)


def _kept(request: UploadRequest, api: UploadApi) -> list[MappedEvent] | None:
    """Return the events of a request as stored, None if it is rejected."""
    upload = read_upload(request.document)
    if isinstance(upload, UploadResponse):
        _check_refusal(upload)
        return None
    events = check_events(upload, is_batch=api.is_batch)
    if isinstance(events, UploadResponse):
        _check_refusal(events)
        return None
    try:
        kept = list(map_events(events, RECEIPT))
    except PayloadError as error:
        known(error.reason, {"too_deep"})
        return None
    assert len(kept) == len(upload.events) <= MAX_EVENTS
    for event in kept:
        _check_kept(event)
    return kept


def _check_kept(event: MappedEvent) -> None:
    assert event.insert_id
    ids = [text for text in (event.device_id, event.user_id) if text is not None]
    assert ids
    assert not any(map(is_refused_id, ids))
    try:
        sent = orjson.loads(event.body)
    except orjson.JSONDecodeError:  # deeper than that parser goes
        return
    assert sent["insert_id"] == event.insert_id
    assert sent.get("ip") != REMOTE
    assert sent["event_type"] == event.event_type


def _check_refusal(answer: UploadResponse) -> None:
    assert answer.status in STATUSES
    assert answer.body["code"] == answer.status
    orjson.dumps(answer.body)
