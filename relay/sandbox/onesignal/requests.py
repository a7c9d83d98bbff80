"""From raw events to the requests OneSignal would send, anomalies included. Pure.

A request is a body and its expected fate: relay must deliver it, or can only quarantine it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from relay.sandbox.common.target import new_uuid
from relay.sandbox.onesignal.templates import Renderer
from relay.sandbox.onesignal.traffic import RawEvent

_KEPT_WHEN_LATE: Final = "id"
_UNKNOWN_KIND: Final = "message.pigeon.released"


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """One request.

    Attributes:
        event_id: The event's `event.id`.
        body: What is sent, the same at every attempt.
        is_deliverable: Whether relay can understand it.
    """

    event_id: str
    body: bytes
    is_deliverable: bool


class Anomalies(BaseModel):
    """What goes wrong with events on their way, each as a share of all events.

    Attributes:
        duplicate_rate: Sent twice, half of these at the same moment.
        late_rate: Of a message whose data OneSignal no longer has: blank except for its id.
        broken_rate: Cut in the middle of the body.
        foreign_rate: Of another app.
        unknown_rate: Of an unknown kind.
        shuffle: Size of the window within which events are shuffled; 0 = the order is kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duplicate_rate: float = Field(default=0.0, ge=0, le=1)
    late_rate: float = Field(default=0.0, ge=0, le=1)
    broken_rate: float = Field(default=0.0, ge=0, le=1)
    foreign_rate: float = Field(default=0.0, ge=0, le=1)
    unknown_rate: float = Field(default=0.0, ge=0, le=1)
    shuffle: int = Field(default=0, ge=0)


def make_requests(
    events: Iterable[RawEvent], renderer: Renderer, anomalies: Anomalies, rng: Random
) -> Iterator[StreamRequest]:
    """Yield the requests of `events` in the order of sending."""
    requests = (_make_request(event, renderer, anomalies, rng) for event in events)
    return _shuffle(_repeat(requests, anomalies, rng), anomalies.shuffle, rng)


def _make_request(
    event: RawEvent, renderer: Renderer, anomalies: Anomalies, rng: Random
) -> StreamRequest:
    is_foreign = rng.random() < anomalies.foreign_rate
    is_unknown = rng.random() < anomalies.unknown_rate
    if is_foreign:
        event = {**event, "event": {**event["event"], "app_id": new_uuid(rng)}}
    if is_unknown:
        event = {**event, "event": {**event["event"], "kind": _UNKNOWN_KIND}}
    if rng.random() < anomalies.late_rate:
        event = {**event, "message": {_KEPT_WHEN_LATE: event["message"][_KEPT_WHEN_LATE]}}
    body = renderer.render(event)
    if rng.random() < anomalies.broken_rate:
        body = body[: len(body) // 2]
    # A cut body, or quotes that were not escaped, may still be JSON: only parsing tells.
    is_deliverable = not is_foreign and not is_unknown and _is_json(body)
    return StreamRequest(str(event["event"]["id"]), body, is_deliverable)


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _repeat(
    requests: Iterable[StreamRequest], anomalies: Anomalies, rng: Random
) -> Iterator[StreamRequest]:
    """Repeat some requests: at once, or after all others."""
    later: list[StreamRequest] = []
    for request in requests:
        yield request
        if rng.random() < anomalies.duplicate_rate:
            if rng.getrandbits(1):
                yield replace(request)
            else:
                later.append(request)
    yield from later


def _shuffle(
    requests: Iterable[StreamRequest], window: int, rng: Random
) -> Iterator[StreamRequest]:
    """Shuffle within a moving window."""
    buffered: list[StreamRequest] = []
    for request in requests:
        buffered.append(request)
        if len(buffered) > window:
            yield buffered.pop(rng.randrange(len(buffered)))
    rng.shuffle(buffered)
    yield from buffered
