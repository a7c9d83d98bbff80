"""What OneSignal sends in each act, made in advance and from a seed. Pure.

Every stream has a body of its own (`relay_template`, the shapes of OneSignal's pages, other
spellings of kinds and times), as the templates of customers do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from relay.demo.audience import Audience, make_audience
from relay.demo.cast import App
from relay.events.catalog import KINDS, SEED_KINDS
from relay.sandbox.onesignal.event_stream import StreamOptions
from relay.sandbox.onesignal.traffic import RawEvent, Traffic, TrafficOptions
from relay.sandbox.onesignal.users import new_uuid

USERS: Final = 30
MOST_EVENTS: Final = 20_000
LATE_EVENTS: Final = 12
FEW: Final = 3
_WANTED: Final = frozenset(SEED_KINDS)
_STEADY: Final[Mapping[str, object]] = {
    "retry_base_s": 0.2,
    "retry_cap_s": 1.0,
    "max_attempts": 30,
}
_MISCHIEF: Final[Mapping[str, object]] = {
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
_SHARES: Final[Mapping[str, float]] = {
    "traffic": 0.40,
    "refused_key": 0.08,
    "outage": 0.22,
    "poison": 0.12,
    "kill": 0.18,
}
_LASTS_S: Final[Mapping[str, float]] = {
    "traffic": 4.0,
    "refused_key": 1.5,
    "outage": 6.0,
    "poison": 2.0,
    "kill": 2.0,
}
_FIRST_APP_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True)
class Flow:
    """One stream of one app in one act.

    Attributes:
        app: Whose events they are.
        events: What is sent, in this order.
        options: How.
        seed: Of the mischief.
    """

    app: App
    events: Sequence[RawEvent]
    options: StreamOptions
    seed: int


@dataclass(frozen=True, slots=True)
class Poison:
    """Events Amplitude will never take.

    Attributes:
        named: Two it names, the first alone in each answer.
        walled: One a firewall refuses.
        huge: One that is too large by itself.
    """

    named: tuple[str, str]
    walled: str
    huge: str

    def reasons(self) -> dict[str, str]:
        """Return the word each of them must stand in the dead letters with."""
        first, second = self.named
        return {
            first: "invalid_field",
            second: "invalid_field",
            self.walled: "forbidden",
            self.huge: "too_large",
        }


@dataclass(slots=True)
class Script:
    """The whole plan.

    Attributes:
        audience: Whom the cohort acts are about.
        flows: The streams of each act.
        wanted: Per app, the ids of events whose kind is selected.
        late: Per app, the ids of events that come without their message, and its name.
        fast_device: The device that is throttled.
        poison: The events that are poison.
        private: Texts of persons and devices that no log may hold.
    """

    audience: Audience
    flows: dict[str, list[Flow]] = field(default_factory=dict)
    wanted: dict[str, frozenset[str]] = field(default_factory=dict)
    late: dict[str, dict[str, str]] = field(default_factory=dict)
    fast_device: str = ""
    poison: Poison = Poison(("", ""), "", "")
    private: set[str] = field(default_factory=set)

    @property
    def total_events(self) -> int:
        """Events of all acts, without duplicates."""
        return sum(len(flow.events) for flows in self.flows.values() for flow in flows)


def write_script(apps: tuple[App, App], events: int, seed: int, starts_at: int) -> Script:
    """Return the plan for about `events` events.

    Args:
        apps: The larger and the smaller one.
        events: Of both, over all acts.
        seed: The same seed gives the same events, but for the apps' ids.
        starts_at: Time of the first event, UTC epoch milliseconds.
    """
    audience = make_audience(Random(f"{seed}:audience"))  # noqa: S311 - people, not secrets
    script = Script(audience, flows={act: [] for act in _SHARES}, private=set(audience.private))
    for number, app in enumerate(apps):
        rng = Random(f"{seed}:{number}")  # noqa: S311 - traffic, not secrets
        share = _FIRST_APP_SHARE if number == 0 else 1 - _FIRST_APP_SHARE
        _write_app(script, app, round(events * share), rng, starts_at)
    first, second = (_clean(script, app) for app in apps)
    devices = Counter(_device(event) for event in first)
    script.fast_device = devices.most_common(1)[0][0]
    others = [_id(event) for event in first if _device(event) != script.fast_device]
    quarter = len(others) // 4
    script.poison = Poison(
        named=(others[quarter], others[2 * quarter]),
        walled=others[3 * quarter],
        huge=_id(second[len(second) // 2]),
    )
    return script


def _write_app(script: Script, app: App, events: int, rng: Random, starts_at: int) -> None:
    scenery = TrafficOptions(app.onesignal_id, KINDS, USERS, starts_at)
    traffic = Traffic(scenery, rng)
    taken = {act: traffic.take(round(events * share)) for act, share in _SHARES.items()}
    late = _late_events(taken["traffic"], rng)
    script.late[app.name] = {_id(event): name for event, name in late}
    taken["outage"] += [event for event, _ in late]
    every = [event for act in taken.values() for event in act]
    script.wanted[app.name] = frozenset(_id(event) for event in every if _is_wanted(event))
    script.private |= set(_private(every))
    for act, own in taken.items():
        bodies = _BODIES if act == "traffic" else _BODIES[:1]
        script.flows[act] += [
            Flow(app, part, _options(act, body, len(part)), rng.getrandbits(32))
            for body, part in zip(bodies, _deal(own, len(bodies)), strict=True)
        ]


def _options(act: str, body: Mapping[str, object], events: int) -> StreamOptions:
    mischief = {} if act == "poison" else _MISCHIEF
    return StreamOptions.model_validate(
        {
            **_STEADY,
            **mischief,
            **body,
            "rate_per_s": max(1.0, events / _LASTS_S[act]),
            "concurrency": 4 if act == "traffic" else 16,
        }
    )


def _deal(events: Sequence[RawEvent], hands: int) -> list[Sequence[RawEvent]]:
    return [events[hand::hands] for hand in range(hands)]


def _late_events(events: Iterable[RawEvent], rng: Random) -> list[tuple[RawEvent, str]]:
    """Return clicks that come when OneSignal has forgotten their messages, with the names.

    Only messages of several events: one of them at least reaches relay whole.
    """
    pushes = [event for event in events if str(event["event"]["kind"]).startswith("message.push.")]
    seen = Counter(str(event["message"]["id"]) for event in pushes)
    found: dict[str, RawEvent] = {
        message: event for event in pushes if seen[message := str(event["message"]["id"])] > FEW
    }
    late = []
    for message, event in list(found.items())[:LATE_EVENTS]:
        click = {**event["event"], "kind": "message.push.clicked", "id": new_uuid(rng)}
        blank: RawEvent = {**event, "event": click, "message": {"id": message}}
        late.append((blank, str(event["message"]["name"])))
    return late


def _clean(script: Script, app: App) -> list[RawEvent]:
    """Return an app's selected events of the act in which nothing happens to them on the way."""
    (flow,) = (flow for flow in script.flows["poison"] if flow.app == app)
    return [event for event in flow.events if _is_wanted(event)]


def _private(events: Iterable[RawEvent]) -> Iterable[str]:
    """Yield what names a person or a device, where it is long enough to be told from a number."""
    for event in events:
        for name in ("subscription_id", "onesignal_id", "external_id"):
            text = str(event["event"][name])
            if len(text) >= len("user-10000"):
                yield text


def _is_wanted(event: RawEvent) -> bool:
    return event["event"]["kind"] in _WANTED


def _id(event: RawEvent) -> str:
    return str(event["event"]["id"])


def _device(event: RawEvent) -> str:
    return str(event["event"]["subscription_id"])
