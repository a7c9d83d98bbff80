"""Answers of relay's own upload API: Amplitude's shapes, letter for letter. Pure.

Amplitude's SDKs decide by the body which events they send again and which they drop, so every
answer has the `code` they look for.

Source: Amplitude, HTTP V2 and Batch Event Upload references (2026), and the parsers of its SDKs.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

Places: TypeAlias = Mapping[str, Sequence[int]]
"""Fields, each with the places of bad events in their request, from 0."""

MISSING_FIELD = "Request missing required field"
INVALID_VALUES = "Invalid field values on some events"
INVALID_JSON = "Invalid JSON request body"

MAX_KEY_CHARACTERS = 100
"""Of an unknown key that are repeated in the answer; Amplitude's keys have 32."""


class UploadResponse(NamedTuple):
    """One answer.

    Attributes:
        status: HTTP status.
        body: The JSON object, its `code` included.
    """

    status: int
    body: Mapping[str, object]


def ingested(events: int, size_bytes: int, now_ms: int) -> UploadResponse:
    """Return the answer for events that are on disk; duplicates count too, as with Amplitude."""
    return _answer(
        HTTPStatus.OK,
        events_ingested=events,
        payload_size_bytes=size_bytes,
        server_upload_time=now_ms,
    )


def bad_request(error: str) -> UploadResponse:
    """Return the refusal of a whole request."""
    return failed(HTTPStatus.BAD_REQUEST, error)


def missing_request_field(name: str) -> UploadResponse:
    """Return the refusal of a request without `api_key` or `events`."""
    return _answer(HTTPStatus.BAD_REQUEST, error=MISSING_FIELD, missing_field=name)


def invalid_api_key(given: str) -> UploadResponse:
    """Return the refusal of an unknown key; it repeats the key, as Amplitude does."""
    return bad_request(f"Invalid API key: {given[:MAX_KEY_CHARACTERS]}")


def missing_event_fields(places: Places) -> UploadResponse:
    """Return the refusal of a request whose events lack a field."""
    return _answer(HTTPStatus.BAD_REQUEST, error=MISSING_FIELD, events_with_missing_fields=places)


def invalid_event_fields(places: Places) -> UploadResponse:
    """Return the refusal of a request whose events have bad values."""
    return _answer(HTTPStatus.BAD_REQUEST, error=INVALID_VALUES, events_with_invalid_fields=places)


def invalid_id_lengths(places: Places) -> UploadResponse:
    """Return the refusal of a request with ids that are too short or too long."""
    return _answer(
        HTTPStatus.BAD_REQUEST,
        error="Invalid id length for user_id or device_id",
        events_with_invalid_id_lengths=places,
    )


def too_large() -> UploadResponse:
    """Return the refusal that makes SDKs split a request."""
    return failed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Payload too large")


def failed(status: int, error: str) -> UploadResponse:
    """Return any other failure."""
    return _answer(status, error=error)


def _answer(status: int, **rest: object) -> UploadResponse:
    return UploadResponse(int(status), {"code": int(status), **rest})
