"""What Amplitude answers, letter for letter: every ordinary body is made here.

Source: Amplitude HTTP V2 and Batch references (2026-03 to 2026-11), and the bodies
its official SDKs parse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.sandbox.common.replies import Answer, JsonObject, html_answer, json_answer

MISSING_FIELD: Final = "Request missing required field"
INVALID_VALUES: Final = "Invalid field values on some events"
THROTTLED: Final = "Too many requests for some devices and users"


def coded(status: int, body: Mapping[str, object]) -> Answer:
    """Return `body` with the status as its `code`."""
    return json_answer(status, {"code": status, **body})


def success(events: int, payload_bytes: int, now_ms: int) -> Answer:
    """Return body A: everything is accepted (repeats of an insert_id count as accepted)."""
    return coded(
        200,
        {
            "events_ingested": events,
            "payload_size_bytes": payload_bytes,
            "server_upload_time": now_ms,
        },
    )


def bad_request(error: str) -> Answer:
    """Return body B: the request as a whole is wrong."""
    return coded(400, {"error": error})


def invalid_api_key(api_key: str) -> Answer:
    """Return body F, which echoes the key, as the live service does."""
    return bad_request(f"Invalid API key: {api_key}")


def missing_request_field(name: str) -> Answer:
    """Return body B for a missing `api_key` or `events`."""
    return coded(400, {"error": MISSING_FIELD, "missing_field": name})


def missing_event_fields(indices: Mapping[str, Sequence[int]]) -> Answer:
    """Return body C for events that lack a field."""
    return coded(400, {"error": MISSING_FIELD, "events_with_missing_fields": indices})


def invalid_event_fields(indices: Mapping[str, Sequence[int]]) -> Answer:
    """Return body C for events with an unusable value."""
    return coded(400, {"error": INVALID_VALUES, "events_with_invalid_fields": indices})


def invalid_id_lengths(indices: Mapping[str, Sequence[int]]) -> Answer:
    """Return body D: ids shorter or longer than allowed."""
    return coded(
        400,
        {
            "error": "Invalid id length for user_id or device_id",
            "events_with_invalid_id_lengths": indices,
        },
    )


def forbidden() -> Answer:
    """Return body G: the web application firewall refused the request."""
    return coded(403, {"error": "Forbidden"})


def too_large() -> Answer:
    """Return body H: too many bytes or too many events."""
    return coded(413, {"error": "Payload too large"})


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


def silenced(restrictions: Restrictions) -> Answer:
    """Return body E: some devices are muted, others may also be throttled."""
    return coded(
        400,
        {
            "error": "Events silenced for device_id",
            "eps_threshold": restrictions.eps_threshold,
            "exceeded_daily_quota_devices": restrictions.quota_devices,
            "silenced_devices": restrictions.silenced_devices,
            "silenced_events": restrictions.silenced_events,
            "throttled_devices": restrictions.throttled_devices,
            "throttled_events": restrictions.throttled_events,
        },
    )


def throttled(restrictions: Restrictions, *, is_batch: bool) -> Answer:
    """Return body I; with daily quotas on the Batch API, or if one is exceeded."""
    body: JsonObject = {
        "error": THROTTLED,
        "eps_threshold": restrictions.eps_threshold,
        "throttled_devices": restrictions.throttled_devices,
        "throttled_users": restrictions.throttled_users,
    }
    if is_batch or restrictions.quota_devices or restrictions.quota_users:
        body["exceeded_daily_quota_users"] = restrictions.quota_users
        body["exceeded_daily_quota_devices"] = restrictions.quota_devices
    return coded(429, {**body, "throttled_events": restrictions.throttled_events})


_FAULT_ANSWERS: Final = {
    "403": forbidden(),
    "404": coded(404, {"error": "Not Found"}),
    "408": coded(408, {"error": "Request Timeout"}),
    "413": too_large(),
    "429": coded(429, {"error": "Too many requests", "eps_threshold": 30}),
    "500": coded(500, {"error": "Internal Server Error"}),
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
