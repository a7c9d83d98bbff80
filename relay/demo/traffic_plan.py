"""What OneSignal sends in each step, made in advance from a seed. Pure.

Every stream has its own body (`relay template`, the shapes of OneSignal's pages, other
spellings of kinds and times), as the templates of customers do.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from relay.demo.config import App
from relay.events.catalog import KINDS, SEED_KINDS
from relay.sandbox.common.target import new_uuid
from relay.sandbox.onesignal.event_stream import StreamOptions
from relay.sandbox.onesignal.traffic import RawEvent, Traffic, TrafficOptions

MOST_EVENTS: Final = 20_000
_USERS: Final = 30
_APP_SHARES: Final = (0.6, 0.4)
_LATE_EVENTS: Final = 12
_LATE_AFTER: Final = 3
"""Only messages with more events get a late one: relay must have seen the message whole."""

_PRIVATE_LENGTH: Final = len("user-10000")
"""Shorter ids could be part of any number in a log."""

_WANTED: Final = frozenset(SEED_KINDS)
_RETRIES: Final = {"retry_base_s": 0.2, "retry_cap_s": 1.0, "max_attempts": 30}
_DEFECTS: Final = {
    "duplicate_rate": 0.06,
    "broken_rate": 0.01,
    "foreign_rate": 0.01,
    "unknown_rate": 0.01,
    "shuffle": 6,
}
_BODIES: Final[tuple[Mapping[str, object], ...]] = (
    {"shape": "relay"},
    {"shape": "A", "title": "dict", "timestamps": "ms"},
    {"shape": "B", "legacy_kinds": True, "timestamps": "iso"},
    {"shape": "D", "title": "en", "timestamps": "number"},
    {"shape": "relay", "title": "pseudo", "timestamps": "absent", "legacy_kinds": True},
    {"shape": "B", "escapes": False},
)


class _Phase(NamedTuple):
    """The traffic of one step."""

    share: float  # of all events
    lasts_s: float
    bodies: tuple[Mapping[str, object], ...] = _BODIES[:1]  # one stream for each
    defects: Mapping[str, object] = _DEFECTS
    concurrency: int = 16


_PHASES: Final = {
    "traffic": _Phase(0.40, 4.0, bodies=_BODIES, concurrency=4),
    "refused_key": _Phase(0.08, 1.5),
    "outage": _Phase(0.22, 6.0),
    "poison": _Phase(0.12, 2.0, defects={}),
    "kill": _Phase(0.18, 2.0),
}


class PlannedStream(NamedTuple):
    """One stream of one app in one step: what is sent, in this order, and how."""

    app: App
    events: Sequence[RawEvent]
    options: StreamOptions
    seed: int


@dataclass(frozen=True, slots=True)
class AppTraffic:
    """All events of one app."""

    streams: Mapping[str, Sequence[PlannedStream]]  # by step
    wanted: frozenset[str]  # ids of events whose kind is selected
    late: Mapping[str, str]  # id of an event that comes without its message, to the message's name
    private_ids: frozenset[str]  # of users and devices: no log may hold them

    def wanted_events(self, step: str) -> list[RawEvent]:
        """Return a step's events whose kind is selected."""
        events = (event for stream in self.streams[step] for event in stream.events)
        return [event for event in events if _id(event) in self.wanted]

    def wanted_ids(self, step: str, device: str | None = None) -> set[str]:
        """Return ids of a step's selected events, of one device or of all."""
        events = self.wanted_events(step)
        return {_id(event) for event in events if device in (None, _device(event))}


@dataclass(frozen=True, slots=True)
class Poison:
    """Events Amplitude will never take."""

    named: tuple[str, str]  # its answer names them, one per answer
    firewalled: str
    huge: str  # too large even alone

    def reasons(self) -> dict[str, str]:
        """Return the reason with which each must become a dead letter."""
        reasons = dict.fromkeys(self.named, "invalid_field")
        return {**reasons, self.firewalled: "forbidden", self.huge: "too_large"}


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """The events of both apps in all steps."""

    apps: Mapping[str, AppTraffic]
    fast_device: str  # that is throttled, of the larger app
    poison: Poison

    @property
    def private_ids(self) -> frozenset[str]:
        """Ids of users and devices that no log may hold."""
        return frozenset().union(*(traffic.private_ids for traffic in self.apps.values()))

    def streams(self, step: str) -> list[PlannedStream]:
        """Return all streams of a step."""
        return [stream for traffic in self.apps.values() for stream in traffic.streams[step]]

    def event_count(self, step: str) -> int:
        """Return the number of a step's events, duplicates not counted."""
        return sum(len(stream.events) for stream in self.streams(step))


def make_traffic_plan(apps: tuple[App, App], events: int, seed: int, starts_at: int) -> TrafficPlan:
    """Return the plan for about `events` events, the first at `starts_at` (UTC epoch ms).

    The same seed gives the same events, but for the apps' ids.
    """
    larger, smaller = (
        _plan_app(app, round(events * share), Random(f"{seed}:{number}"), starts_at)  # noqa: S311 - traffic, not secrets
        for number, (app, share) in enumerate(zip(apps, _APP_SHARES, strict=True))
    )
    candidates = larger.wanted_events("poison")
    fast_device, _ = Counter(map(_device, candidates)).most_common(1)[0]
    # A throttled event is held and cannot die within the demo's time: poison other devices.
    others = [_id(event) for event in candidates if _device(event) != fast_device]
    quarter = len(others) // 4
    huge = [_id(event) for event in smaller.wanted_events("poison")]
    poison = Poison(
        named=(others[quarter], others[2 * quarter]),
        firewalled=others[3 * quarter],
        huge=huge[len(huge) // 2],
    )
    by_name = dict(zip((app.name for app in apps), (larger, smaller), strict=True))
    return TrafficPlan(by_name, fast_device, poison)


def _plan_app(app: App, events: int, rng: Random, starts_at: int) -> AppTraffic:
    traffic = Traffic(TrafficOptions(app.onesignal_id, KINDS, _USERS, starts_at), rng)
    taken = {step: traffic.take(round(events * phase.share)) for step, phase in _PHASES.items()}
    late = list(_late_events(taken["traffic"], rng))
    # Sent in a later step than the message, which relay must then know from its own memory.
    taken["outage"] += [event for event, _ in late]
    every = [event for own in taken.values() for event in own]
    return AppTraffic(
        streams={step: _plan_streams(app, step, own, rng) for step, own in taken.items()},
        wanted=frozenset(_id(event) for event in every if event["event"]["kind"] in _WANTED),
        late={_id(event): name for event, name in late},
        private_ids=frozenset(_private_ids(every)),
    )


def _plan_streams(
    app: App, step: str, events: Sequence[RawEvent], rng: Random
) -> list[PlannedStream]:
    phase, streams = _PHASES[step], []
    for number, body in enumerate(phase.bodies):
        own = events[number :: len(phase.bodies)]
        rate = {"rate_per_s": max(1.0, len(own) / phase.lasts_s), "concurrency": phase.concurrency}
        options = StreamOptions.model_validate({**_RETRIES, **phase.defects, **body, **rate})
        streams.append(PlannedStream(app, own, options, rng.getrandbits(32)))
    return streams


def _late_events(events: Iterable[RawEvent], rng: Random) -> Iterator[tuple[RawEvent, str]]:
    """Yield clicks that come when OneSignal has forgotten their messages, with the names."""
    pushes = [event for event in events if str(event["event"]["kind"]).startswith("message.push.")]
    seen = Counter(str(event["message"]["id"]) for event in pushes)
    found = {
        message: event
        for event in pushes
        if seen[message := str(event["message"]["id"])] > _LATE_AFTER
    }
    for message, event in list(found.items())[:_LATE_EVENTS]:
        click = {**event["event"], "kind": "message.push.clicked", "id": new_uuid(rng)}
        late: RawEvent = {**event, "event": click, "message": {"id": message}}
        yield late, str(event["message"]["name"])


def _private_ids(events: Iterable[RawEvent]) -> Iterator[str]:
    for event in events:
        for name in ("subscription_id", "onesignal_id", "external_id"):
            text = str(event["event"][name])
            if len(text) >= _PRIVATE_LENGTH:
                yield text


def _id(event: RawEvent) -> str:
    return str(event["event"]["id"])


def _device(event: RawEvent) -> str:
    return str(event["event"]["subscription_id"])
