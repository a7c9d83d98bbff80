"""What Amplitude answers, letter for letter: every ordinary body is made here.

Source: Amplitude HTTP V2 and Batch references (2026-03 to 2026-11), and the bodies
its official SDKs parse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relay.sandbox.common.replies import Answer, JsonObject, html_answer, json_answer

MISSING_FIELD: Final = "Request missing required field"
INVALID_VALUES: Final = "Invalid field values on some events"
Indices: TypeAlias = Mapping[str, Sequence[int]]
"""Field to the events that are wrong in it, by position."""


def error(status: int, text: str, **details: object) -> Answer:
    """Return an error with the status as its `code`."""
    return json_answer(status, {"code": status, "error": text, **details})


def success(events: int, payload_bytes: int, now_ms: int) -> Answer:
    """Return body A: everything is accepted (repeats of an insert_id count as accepted)."""
    counts = {"events_ingested": events, "payload_size_bytes": payload_bytes}
    return json_answer(200, {"code": 200, **counts, "server_upload_time": now_ms})


def bad_request(text: str) -> Answer:
    """Return body B: the request as a whole is wrong."""
    return error(400, text)


def invalid_api_key(api_key: str) -> Answer:
    """Return body F, which echoes the key, as the live service does."""
    return bad_request(f"Invalid API key: {api_key}")


def missing_request_field(name: str) -> Answer:
    """Return body B for a missing `api_key` or `events`."""
    return error(400, MISSING_FIELD, missing_field=name)


def missing_event_fields(indices: Indices) -> Answer:
    """Return body C for events that lack a field."""
    return error(400, MISSING_FIELD, events_with_missing_fields=indices)


def invalid_event_fields(indices: Indices) -> Answer:
    """Return body C for events with an unusable value."""
    return error(400, INVALID_VALUES, events_with_invalid_fields=indices)


def invalid_id_lengths(indices: Indices) -> Answer:
    """Return body D: ids shorter or longer than allowed."""
    text = "Invalid id length for user_id or device_id"
    return error(400, text, events_with_invalid_id_lengths=indices)


def forbidden() -> Answer:
    """Return body G: the web application firewall refused the request."""
    return error(403, "Forbidden")


def too_large() -> Answer:
    """Return body H: too many bytes or too many events."""
    return error(413, "Payload too large")


@dataclass(slots=True)
class Restrictions:
    """Whose events one request may not bring, for bodies E and I.

    Attributes:
        eps_threshold: The stated limit, in events per second.
        throttled_devices: Device id to its events per second.
        throttled_users: User id to its events per second.
        throttled_events: Indices of events of a throttled or over-quota id.
        quota_devices: Device id to its events of the day.
        quota_users: User id to its events of the day.
        silenced_devices: Device ids that Amplitude has muted.
        silenced_events: Indices of their events.
    """

    eps_threshold: int
    throttled_devices: dict[str, int] = field(default_factory=dict)
    throttled_users: dict[str, int] = field(default_factory=dict)
    throttled_events: list[int] = field(default_factory=list)
    quota_devices: dict[str, int] = field(default_factory=dict)
    quota_users: dict[str, int] = field(default_factory=dict)
    silenced_devices: list[str] = field(default_factory=list)
    silenced_events: list[int] = field(default_factory=list)


def silenced(found: Restrictions) -> Answer:
    """Return body E: some devices are muted, others may also be throttled."""
    return error(
        400,
        "Events silenced for device_id",
        eps_threshold=found.eps_threshold,
        exceeded_daily_quota_devices=found.quota_devices,
        silenced_devices=found.silenced_devices,
        silenced_events=found.silenced_events,
        throttled_devices=found.throttled_devices,
        throttled_events=found.throttled_events,
    )


def throttled(found: Restrictions, *, is_batch: bool) -> Answer:
    """Return body I; with daily quotas on the Batch API, or if one is exceeded."""
    quotas: JsonObject = {}
    if is_batch or found.quota_devices or found.quota_users:
        quotas["exceeded_daily_quota_users"] = found.quota_users
        quotas["exceeded_daily_quota_devices"] = found.quota_devices
    return error(
        429,
        "Too many requests for some devices and users",
        eps_threshold=found.eps_threshold,
        throttled_devices=found.throttled_devices,
        throttled_users=found.throttled_users,
        throttled_events=found.throttled_events,
        **quotas,
    )


_FAULT_ANSWERS: Final = {
    "403": forbidden(),
    "404": error(404, "Not Found"),
    "408": error(408, "Request Timeout"),
    "413": too_large(),
    "429": error(429, "Too many requests", eps_threshold=30),
    "500": error(500, "Internal Server Error"),
    "503": html_answer(503, "503 Service Temporarily Unavailable"),
    "400_bare": bad_request(INVALID_VALUES),
    "400_html": html_answer(400, "400 Bad Request"),
    "200_no_code": Answer(200, b'{"events_ingested":1,"payload_size_bytes":2}'),
    "200_code_500": Answer(200, b'{"code":500,"error":"Internal Server Error"}'),
    "200_cut": success(1, 2, 0),
    "500_code_200": Answer(500, b'{"code":200,"events_ingested":1}'),
}


def fault_answer(name: str) -> Answer | None:
    """Return the answer of a fault; None if it is trouble below HTTP."""
    return _FAULT_ANSWERS.get(name)
