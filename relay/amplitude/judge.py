"""What an upload's answer means for each event of it. All judgement of answers is here.

Pure: an answer and its events in, a verdict out. The API client has already cut the project's
key out of the answer.

Source: Amplitude's HTTP V2 and Batch Event Upload references (2026-03 and 2026-11), and
the behaviour its SDKs expect of the live service.
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

MAX_WORDS = 200
"""Characters kept of a text of Amplitude's."""

REJECTING_FIELDS = {
    "events_with_missing_fields": "missing_field",
    "events_with_invalid_fields": "invalid_field",
    "events_with_invalid_id_lengths": "invalid_id_length",
}
"""Keys of a 400 that map a field to the indices of the events it rejects."""

_REFUSALS = frozenset(
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
            return Split("too_large", _words(reply), is_size=True)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return _judge_too_many(reply, events)
        case status if status in _REFUSALS:
            return Forbidden("forbidden", _words(reply))
        case status if status == HTTPStatus.REQUEST_TIMEOUT or not 400 <= status < 500:  # noqa: PLR2004
            return Retry(f"status {status}", reply.retry_after_s)
        case status:
            return Forbidden("rejected", _words(reply), blames_request=True)


def _judge_ok(reply: UploadReply, count: int) -> Verdict:
    """Believe a 200 only if its body says so too: proxies answer 200 to anything."""
    if _answer(reply).get("code") == HTTPStatus.OK:
        return Settled((Delivered(),) * count)
    return Retry("status 200 without Amplitude's confirmation", reply.retry_after_s)


def _judge_bad_request(reply: UploadReply, events: Sequence[Identified]) -> Verdict:
    answer = _answer(reply)
    error = answer.get("error")
    if isinstance(error, str) and error.startswith(BAD_KEY):
        return Halt("Amplitude does not know the API key")
    outcomes: dict[int, Outcome] = _judge_holds(reply, answer, events)
    words = _words(reply)
    outcomes.update(_judge_silenced(answer, events, words))
    rejected, is_partial = _judge_rejected(answer, len(events), words)
    outcomes.update(rejected)
    if outcomes:
        return _settled(outcomes, len(events), is_partial=is_partial)
    return Split("rejected", words)


def _judge_rejected(
    answer: Mapping[str, object], count: int, words: str
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
            is_partial = is_partial or len(named) == 1
            for index in named:
                outcomes.setdefault(index, Dead(reason, f"{words} ({name[:MAX_WORDS]})"))
    return outcomes, is_partial


def _judge_silenced(
    answer: Mapping[str, object], events: Sequence[Identified], words: str
) -> dict[int, Outcome]:
    """Return the events whose device Amplitude has muted for good."""
    named = _indices(answer.get("silenced_events"), len(events))
    silenced = _names(answer.get("silenced_devices"))
    named |= {index for index, ids in enumerate(events) if ids.device_id in silenced}
    return {index: Dead("silenced", words) for index in named}


def _judge_too_many(reply: UploadReply, events: Sequence[Identified]) -> Verdict:
    holds = _judge_holds(reply, _answer(reply), events)
    if holds:
        return _settled(holds, len(events))
    return Retry("status 429: the project is throttled", reply.retry_after_s)


def _judge_holds(
    reply: UploadReply, answer: Mapping[str, object], events: Sequence[Identified]
) -> dict[int, Outcome]:
    """Return the events whose device or user is throttled or over its daily quota."""
    quota_devices = _names(answer.get("exceeded_daily_quota_devices"))
    quota_users = _names(answer.get("exceeded_daily_quota_users"))
    devices = _names(answer.get("throttled_devices")) | quota_devices
    users = _names(answer.get("throttled_users")) | quota_users
    for index in _indices(answer.get("throttled_events"), len(events)):
        ids = events[index]
        if ids.device_id not in devices and ids.user_id not in users:
            own_devices, own_users = _sender(ids)
            devices, users = devices | own_devices, users | own_users
    holds: dict[int, Outcome] = {}
    for index, ids in enumerate(events):
        held_devices = _one_of(ids.device_id, devices)
        held_users = _one_of(ids.user_id, users)
        if not held_devices and not held_users:
            continue
        is_quota = bool(held_devices & quota_devices or held_users & quota_users)
        if is_quota:  # the long wait is for that id alone, not for whom it was sent with
            held_devices, held_users = held_devices & quota_devices, held_users & quota_users
        wait_s = max(reply.retry_after_s or 0.0, QUOTA_HOLD_S) if is_quota else reply.retry_after_s
        reason = "quota" if is_quota else "throttled"
        holds[index] = Hold(held_devices, held_users, wait_s, reason)
    return holds


def _one_of(own: str | None, named: Collection[str]) -> frozenset[str]:
    return frozenset({own}) if own is not None and own in named else frozenset()


def _sender(ids: Identified) -> tuple[frozenset[str], frozenset[str]]:
    """Return what to hold of an event named by its index alone: its device, else its user."""
    if ids.device_id is not None:
        return frozenset({ids.device_id}), frozenset()
    return frozenset(), frozenset({ids.user_id} if ids.user_id is not None else ())


def _settled(outcomes: Mapping[int, Outcome], count: int, *, is_partial: bool = False) -> Settled:
    every = tuple(outcomes.get(index) or Requeue() for index in range(count))
    return Settled(every, is_partial=is_partial)


def _answer(reply: UploadReply) -> dict[str, object]:
    """Return the answer's JSON object, empty if it holds none."""
    try:
        answer = orjson.loads(reply.body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _words(reply: UploadReply) -> str:
    """Return the status and what Amplitude said of it, for a person."""
    error = _answer(reply).get("error")
    return f"{reply.status} {error[:MAX_WORDS]}" if isinstance(error, str) else f"{reply.status}"


def _indices(value: object, count: int) -> set[int]:
    """Return the places in an upload of `count` events that `value` lists."""
    if not isinstance(value, list):
        return set()
    return {index for index in value if type(index) is int and 0 <= index < count}


def _names(value: object) -> frozenset[str]:
    """Return the ids that a map of ids or a list of them names."""
    if isinstance(value, dict | list):
        return frozenset(name for name in value if isinstance(name, str))
    return frozenset()
