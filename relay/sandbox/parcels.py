"""From raw events to the requests OneSignal would send, mischief included. Pure.

A parcel is one body and what is to become of it: relay must deliver it, or may only put
it into quarantine.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from relay.sandbox.people import new_uuid
from relay.sandbox.templates import Renderer
from relay.sandbox.traffic import RawEvent

_KEPT_WHEN_LATE: Final = "id"
_UNKNOWN_KIND: Final = "message.pigeon.released"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request.

    Attributes:
        event_id: The event's `event.id`.
        body: What is sent, the same at every attempt.
        is_deliverable: Whether relay can understand it.
    """

    event_id: str
    body: bytes
    is_deliverable: bool


class Mischief(BaseModel):
    """What goes wrong with events on their way, each as a share of all.

    Attributes:
        duplicate_rate: Sent twice, half of these at the same moment.
        late_rate: Of a message whose data OneSignal no longer has: blank but for its id.
        broken_rate: Cut in the middle of the body.
        foreign_rate: Of another app.
        unknown_rate: Of a kind nobody knows.
        shuffle: How many events are mixed; 0 = the order is kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duplicate_rate: float = Field(default=0.0, ge=0, le=1)
    late_rate: float = Field(default=0.0, ge=0, le=1)
    broken_rate: float = Field(default=0.0, ge=0, le=1)
    foreign_rate: float = Field(default=0.0, ge=0, le=1)
    unknown_rate: float = Field(default=0.0, ge=0, le=1)
    shuffle: int = Field(default=0, ge=0)


def pack(
    events: Iterable[RawEvent], renderer: Renderer, mischief: Mischief, rng: Random
) -> Iterator[Parcel]:
    """Yield the parcels of `events` in the order of sending."""
    parcels = (_pack_one(event, renderer, mischief, rng) for event in events)
    return _shuffle(_repeat(parcels, mischief, rng), mischief.shuffle, rng)


def _pack_one(event: RawEvent, renderer: Renderer, mischief: Mischief, rng: Random) -> Parcel:
    is_foreign = rng.random() < mischief.foreign_rate
    is_unknown = rng.random() < mischief.unknown_rate
    if is_foreign:
        event = {**event, "event": {**event["event"], "app_id": new_uuid(rng)}}
    if is_unknown:
        event = {**event, "event": {**event["event"], "kind": _UNKNOWN_KIND}}
    if rng.random() < mischief.late_rate:
        event = {**event, "message": {_KEPT_WHEN_LATE: event["message"][_KEPT_WHEN_LATE]}}
    body = renderer.render(event)
    if rng.random() < mischief.broken_rate:
        body = body[: len(body) // 2]
    is_deliverable = not is_foreign and not is_unknown and _is_json(body)
    return Parcel(str(event["event"]["id"]), body, is_deliverable)


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _repeat(parcels: Iterable[Parcel], mischief: Mischief, rng: Random) -> Iterator[Parcel]:
    """Send some twice: at once, or after all the others."""
    later: list[Parcel] = []
    for parcel in parcels:
        yield parcel
        if rng.random() < mischief.duplicate_rate:
            if rng.getrandbits(1):
                yield replace(parcel)
            else:
                later.append(parcel)
    yield from later


def _shuffle(parcels: Iterable[Parcel], window: int, rng: Random) -> Iterator[Parcel]:
    """Mix within a moving window."""
    held: list[Parcel] = []
    for parcel in parcels:
        held.append(parcel)
        if len(held) > window:
            yield held.pop(rng.randrange(len(held)))
    rng.shuffle(held)
    yield from held
