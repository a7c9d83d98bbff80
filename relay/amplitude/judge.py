"""What an upload's answer means for each of its events. Pure. Nothing else judges answers.

| answer                                          | verdict                                      |
|-------------------------------------------------|----------------------------------------------|
| none: timeout, reset, no connection             | `Retry`                                      |
| 200 whose body has `"code": 200`                | `Settled`: all delivered                     |
| 200 with any other body                         | `Retry`                                      |
| 400 "Invalid API key"                           | `Halt`                                       |
| 400 naming events, devices or users             | `Settled`: dead or on hold; others requeued  |
| 400 naming none                                 | `Split`                                      |
| 413                                             | `Split`, for its size                        |
| 429 naming events, devices or users             | `Settled`: on hold; others requeued          |
| 429 naming none                                 | `Retry`                                      |
| 401, 403, 407, 451                              | `Forbidden`                                  |
| 408, 1xx, other 2xx, 3xx, 5xx                   | `Retry`                                      |
| any other 4xx                                   | `Forbidden`, blaming the request             |

The API client has already removed the project's key from the answer.

Source: Amplitude's HTTP V2 and Batch Event Upload references (2026-03 and 2026-11), and the
behaviour its SDKs expect of the live service.
"""

from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus

import orjson

from relay.amplitude.verdicts import (
    Dead,
    Delivered,
    Forbidden,
    Halt,
    Hold,
    Identified,
    Outcome,
    Requeue,
    Retry,
    Settled,
    Split,
    UploadReply,
    Verdict,
)

QUOTA_HOLD_S = 3600.0
"""A daily quota is counted over 24 hours in steps of one hour."""

BAD_KEY = "Invalid API key"

MAX_TEXT = 200
"""Characters kept of an error text of Amplitude's."""

REJECTING_FIELDS = {
    "events_with_missing_fields": "missing_field",
    "events_with_invalid_fields": "invalid_field",
    "events_with_invalid_id_lengths": "invalid_id_length",
}
"""Keys of a 400 that map a field to the indices of the events it rejects, and the reasons."""

_FORBIDDING = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS,
    }
)


def judge_upload(reply: UploadReply, events: Sequence[Identified]) -> Verdict:
    """Return what `reply` means for the events of the upload, in their order."""
    match reply.status:
        case None:
            return Retry(reply.failure or "no answer")
        case HTTPStatus.OK:
            return _judge_ok(reply, len(events))
        case HTTPStatus.BAD_REQUEST:
            return _judge_bad_request(reply, events)
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return Split("too_large", _describe(reply), is_size=True)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return _judge_too_many(reply, events)
        case status if status in _FORBIDDING:
            return Forbidden("forbidden", _describe(reply))
        case status if status == HTTPStatus.REQUEST_TIMEOUT or not 400 <= status < 500:  # noqa: PLR2004
            return Retry(f"status {status}", reply.retry_after_s)
        case _:
            return Forbidden("rejected", _describe(reply), blames_request=True)


def _judge_ok(reply: UploadReply, count: int) -> Verdict:
    # Proxies answer 200 to anything, so only the body confirms.
    if _parse(reply).get("code") == HTTPStatus.OK:
        return Settled((Delivered(),) * count)
    return Retry("status 200 without Amplitude's confirmation", reply.retry_after_s)


def _judge_bad_request(reply: UploadReply, events: Sequence[Identified]) -> Verdict:
    answer = _parse(reply)
    error = answer.get("error")
    if isinstance(error, str) and error.startswith(BAD_KEY):
        return Halt("Amplitude does not know the API key")
    detail = _describe(reply)
    # An event may be named more than once; dead counts before on hold.
    outcomes: dict[int, Outcome] = _find_held(reply, answer, events)
    outcomes.update(_find_silenced(answer, events, detail))
    rejected, is_partial = _find_rejected(answer, len(events), detail)
    outcomes.update(rejected)
    if outcomes:
        return _settle(outcomes, len(events), is_partial=is_partial)
    return Split("rejected", detail)


def _judge_too_many(reply: UploadReply, events: Sequence[Identified]) -> Verdict:
    if held := _find_held(reply, _parse(reply), events):
        return _settle(held, len(events))
    return Retry("status 429: the project is throttled", reply.retry_after_s)


def _find_rejected(
    answer: Mapping[str, object], count: int, detail: str
) -> tuple[dict[int, Outcome], bool]:
    """Return the events a 400 rejects by field, and whether it may hide further ones."""
    outcomes: dict[int, Outcome] = {}
    is_partial = False
    for key, reason in REJECTING_FIELDS.items():
        fields = answer.get(key)
        if not isinstance(fields, dict):
            continue
        for name, indices in fields.items():
            named = _indices(indices, count)
            # HTTP V2 names only the first bad event of a field.
            is_partial = is_partial or len(named) == 1
            for index in named:
                outcomes.setdefault(index, Dead(reason, f"{detail} ({name[:MAX_TEXT]})"))
    return outcomes, is_partial


def _find_silenced(
    answer: Mapping[str, object], events: Sequence[Identified], detail: str
) -> dict[int, Outcome]:
    """Return the events whose device Amplitude has muted for good."""
    named = _indices(answer.get("silenced_events"), len(events))
    silenced = _ids(answer.get("silenced_devices"))
    named |= {index for index, event in enumerate(events) if event.device_id in silenced}
    return {index: Dead("silenced", detail) for index in named}


def _find_held(
    reply: UploadReply, answer: Mapping[str, object], events: Sequence[Identified]
) -> dict[int, Outcome]:
    """Return the events whose device or user is throttled or over its daily quota."""
    quota_devices = _ids(answer.get("exceeded_daily_quota_devices"))
    quota_users = _ids(answer.get("exceeded_daily_quota_users"))
    devices = _ids(answer.get("throttled_devices")) | quota_devices
    users = _ids(answer.get("throttled_users")) | quota_users
    # An index counts only for an event of which no id is named.
    for index in _indices(answer.get("throttled_events"), len(events)):
        event = events[index]
        if event.device_id not in devices and event.user_id not in users:
            own_devices, own_users = _sender(event)
            devices, users = devices | own_devices, users | own_users
    held: dict[int, Outcome] = {}
    for index, event in enumerate(events):
        held_devices = _one_of(event.device_id, devices)
        held_users = _one_of(event.user_id, users)
        if not held_devices and not held_users:
            continue
        is_quota = bool(held_devices & quota_devices or held_users & quota_users)
        if is_quota:  # the long wait is for that id alone, not for the other one of the event
            held_devices, held_users = held_devices & quota_devices, held_users & quota_users
        wait_s = max(reply.retry_after_s or 0.0, QUOTA_HOLD_S) if is_quota else reply.retry_after_s
        reason = "quota" if is_quota else "throttled"
        held[index] = Hold(held_devices, held_users, wait_s, reason)
    return held


def _one_of(own: str | None, named: Collection[str]) -> frozenset[str]:
    return frozenset({own}) if own is not None and own in named else frozenset()


def _sender(event: Identified) -> tuple[frozenset[str], frozenset[str]]:
    """Return what to hold for an event named by its index alone: its device, else its user."""
    if event.device_id is not None:
        return frozenset({event.device_id}), frozenset()
    return frozenset(), frozenset({event.user_id} if event.user_id is not None else ())


def _settle(outcomes: Mapping[int, Outcome], count: int, *, is_partial: bool = False) -> Settled:
    every = tuple(outcomes.get(index) or Requeue() for index in range(count))
    return Settled(every, is_partial=is_partial)


def _parse(reply: UploadReply) -> dict[str, object]:
    """Return the answer's JSON object, empty if it holds none."""
    try:
        answer = orjson.loads(reply.body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _describe(reply: UploadReply) -> str:
    """Return the status and Amplitude's error text, for the operator."""
    error = _parse(reply).get("error")
    return f"{reply.status} {error[:MAX_TEXT]}" if isinstance(error, str) else f"{reply.status}"


def _indices(value: object, count: int) -> set[int]:
    """Return the places in an upload of `count` events that `value` lists."""
    if not isinstance(value, list):
        return set()
    # `type`, as JSON's true is an `int` to Python.
    return {index for index in value if type(index) is int and 0 <= index < count}


def _ids(value: object) -> frozenset[str]:
    """Return the ids that a map of ids or a list of them names."""
    if isinstance(value, dict | list):
        return frozenset(name for name in value if isinstance(name, str))
    return frozenset()
