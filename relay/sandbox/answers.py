"""What Amplitude answers, letter for letter: every ordinary body is made here.

Source: Amplitude HTTP V2 and Batch references (2026-03 to 2026-11), and the bodies
its official SDKs parse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import orjson

JsonObject: TypeAlias = dict[str, object]

MISSING_FIELD = "Request missing required field"
INVALID_VALUES = "Invalid field values on some events"
THROTTLED = "Too many requests for some devices and users"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: HTTP status.
        body: The bytes, not compressed.
        content_type: Media type of the body.
        headers: Further headers.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_header(self, name: str, value: str) -> "Answer":
        """Return the same answer with one header more."""
        return replace(self, headers={**self.headers, name: value})


def json_answer(status: int, body: Mapping[str, object]) -> Answer:
    """Return `body` as JSON; its `code` is the status unless it says otherwise."""
    return Answer(status, orjson.dumps({"code": status, **body}))


def html_answer(status: int, title: str) -> Answer:
    """Return the page a proxy shows in the service's stead."""
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Answer(status, page.encode(), "text/html")


def success(events: int, payload_bytes: int, now_ms: int) -> Answer:
    """Return body A: everything was taken (repeats of an insert_id count as taken)."""
    return json_answer(
        200,
        {
            "events_ingested": events,
            "payload_size_bytes": payload_bytes,
            "server_upload_time": now_ms,
        },
    )


def bad_request(error: str) -> Answer:
    """Return body B: the request as a whole is wrong."""
    return json_answer(400, {"error": error})


def invalid_api_key(api_key: str) -> Answer:
    """Return body F, which repeats the key, as the live service does."""
    return bad_request(f"Invalid API key: {api_key}")


def missing_request_field(name: str) -> Answer:
    """Return body B for a missing `api_key` or `events`."""
    return json_answer(400, {"error": MISSING_FIELD, "missing_field": name})


def missing_event_fields(indices: Mapping[str, Sequence[int]]) -> Answer:
    """Return body C for events that lack a field."""
    return json_answer(400, {"error": MISSING_FIELD, "events_with_missing_fields": indices})


def invalid_event_fields(indices: Mapping[str, Sequence[int]]) -> Answer:
    """Return body C for events with an unusable value."""
    return json_answer(400, {"error": INVALID_VALUES, "events_with_invalid_fields": indices})


def invalid_id_lengths(indices: Mapping[str, Sequence[int]]) -> Answer:
    """Return body D: ids shorter or longer than allowed."""
    return json_answer(
        400,
        {
            "error": "Invalid id length for user_id or device_id",
            "events_with_invalid_id_lengths": indices,
        },
    )


def forbidden() -> Answer:
    """Return body G: the web application firewall refused the request."""
    return json_answer(403, {"error": "Forbidden"})


def too_large() -> Answer:
    """Return body H: too many bytes or too many events."""
    return json_answer(413, {"error": "Payload too large"})


@dataclass(slots=True)
class Holds:
    """Who is held in one request, for bodies E and I.

    Attributes:
        eps_threshold: The limit that is told, in events per second.
        throttled_devices: Device id to its events per second.
        throttled_users: User id to its events per second.
        throttled_events: Indices of events of a throttled or over-quota id.
        quota_devices: Device id to its events of the day.
        quota_users: User id to its events of the day.
        silenced_devices: Device ids Amplitude has muted.
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


def silenced(holds: Holds) -> Answer:
    """Return body E: some devices are muted, others may be throttled besides."""
    return json_answer(
        400,
        {
            "error": "Events silenced for device_id",
            "eps_threshold": holds.eps_threshold,
            "exceeded_daily_quota_devices": holds.quota_devices,
            "silenced_devices": holds.silenced_devices,
            "silenced_events": holds.silenced_events,
            "throttled_devices": holds.throttled_devices,
            "throttled_events": holds.throttled_events,
        },
    )


def throttled(holds: Holds, *, is_batch: bool) -> Answer:
    """Return body I; with the daily quotas on the Batch API, or where one is exceeded."""
    body: JsonObject = {
        "error": THROTTLED,
        "eps_threshold": holds.eps_threshold,
        "throttled_devices": holds.throttled_devices,
        "throttled_users": holds.throttled_users,
    }
    if is_batch or holds.quota_devices or holds.quota_users:
        body["exceeded_daily_quota_users"] = holds.quota_users
        body["exceeded_daily_quota_devices"] = holds.quota_devices
    return json_answer(429, {**body, "throttled_events": holds.throttled_events})
