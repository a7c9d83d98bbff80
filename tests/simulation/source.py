"""OneSignal: sends every request until it is answered, repeats some, and never forgets which."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

import anyio
import orjson

from relay.clock import Clock
from relay.errors import StoreFull
from relay.events.batch import IngestBatch, QuarantinedBody
from relay.events.mapping import MappedEvent
from relay.outbox.store import Outbox
from tests.simulation.journal import Journal
from tests.simulation.scenario import FLAWS, Scenario

CLIENTS = 3
"""Concurrent requests of one app."""

START_MS = 1_767_261_906_412
REPEAT_RATE = 0.15
ODD_RATE = 0.05
PADDED_RATE = 0.05


@dataclass(order=True)
class Request:
    """One request.

    Attributes:
        due_s: When it is sent; later after every rejection.
        number: Its index among all.
        events: Its events.
        is_odd: Whether it also has filtered or malformed events.
        refusals: How often it was rejected.
    """

    due_s: float
    number: int
    events: list[MappedEvent] = field(compare=False)
    is_odd: bool = field(compare=False, default=False)
    rejections: int = field(compare=False, default=0)


@dataclass
class Fate:
    """What OneSignal knows of one event.

    Attributes:
        event: As relay should upload it.
        sent_step: When it was first sent.
        acked_step: When it was first answered 200; None if it never was.
    """

    event: MappedEvent
    sent_step: int
    acked_step: int | None = None


class Source:
    """One app's event stream.

    Attributes:
        fates: Every event sent, by insert id.
        forgotten: Erased users, whose events relay now filters.
    """

    def __init__(self, app: str, scenario: Scenario, journal: Journal) -> None:
        self._app = app
        self._scenario = scenario
        self._journal = journal
        self._rng = scenario.rng(f"source {app}")
        self._numbers = count(1)
        self._requests: list[Request] = []
        self._news = anyio.Event()
        self._in_flight = 0
        self.fates: dict[str, Fate] = {}
        self.forgotten: set[str] = set()
        for request in self._draw():
            heappush(self._requests, request)

    def _draw(self) -> Iterator[Request]:
        rng, scenario = self._rng, self._scenario
        burst_s, known = 0.0, list[MappedEvent]()
        for _ in range(scenario.requests):
            if rng.random() < 0.5:
                burst_s = rng.uniform(0, 0.8 * scenario.span_s)
            events = [self.draw_event() for _ in range(rng.choice((1, 1, 2, 5, 12)))]
            if known and rng.random() < REPEAT_RATE:
                events += rng.sample(known, min(len(known), 3))
            known += events
            is_odd = rng.random() < ODD_RATE
            yield Request(burst_s, next(self._numbers), events, is_odd)

    def draw_event(self) -> MappedEvent:
        """Return a new event."""
        rng, scenario = self._rng, self._scenario
        number = rng.randrange(scenario.devices)
        device = f"d{number}" if rng.random() < 0.9 else None
        user: str | None = f"u{rng.choice((number, rng.randrange(scenario.devices)))}"
        if device and rng.random() < 0.1:
            user = None
        flaw = rng.choice(FLAWS) if rng.random() < scenario.flaw_rate else None
        return _event(f"e{next(self._numbers)}", device, user, flaw, rng.random() < PADDED_RATE)

    def add(self, due_s: float, *events: MappedEvent) -> None:
        """Schedule more requests."""
        heappush(self._requests, Request(due_s, next(self._numbers), list(events)))
        self._news.set()

    def add_fresh(self, due_s: float) -> None:
        """Schedule a good event of a new device."""
        number = next(self._numbers)
        self.add(due_s, _event(f"e{number}", f"fresh{number}", None, None, is_padded=False))

    @property
    def is_idle(self) -> bool:
        """Whether every request was answered."""
        return not self._requests and not self._in_flight

    @property
    def acked(self) -> set[str]:
        """Insert ids of the events answered 200."""
        return {name for name, fate in self.fates.items() if fate.acked_step is not None}

    async def run(self, outbox: Outbox, clock: Clock) -> None:
        """Send what is due, several at once, until cancelled."""
        async with anyio.create_task_group() as group:
            for _ in range(CLIENTS):
                group.start_soon(self._send_all, outbox, clock)

    async def _send_all(self, outbox: Outbox, clock: Clock) -> None:
        while True:
            request = await self._next()
            self._in_flight += 1
            try:
                await self._send(outbox, request, clock.now_ms())
            except StoreFull:
                request.rejections += 1
                longest_s = min(300.0, 2.0**request.rejections)
                request.due_s = anyio.current_time() + self._rng.uniform(0.5, longest_s)
                heappush(self._requests, request)
            except BaseException:
                heappush(self._requests, request)
                raise
            finally:
                self._in_flight -= 1

    async def _next(self) -> Request:
        """Return the next request, once it is due."""
        while not self._requests or self._requests[0].due_s > anyio.current_time():
            self._news = anyio.Event()
            deadline_s = self._requests[0].due_s if self._requests else float("inf")
            with anyio.CancelScope(deadline=deadline_s):
                await self._news.wait()
        return heappop(self._requests)

    async def _send(self, outbox: Outbox, request: Request, now_ms: int) -> None:
        events = [event for event in request.events if event.user_id not in self.forgotten]
        for event in events:
            self.fates.setdefault(event.insert_id, Fate(event, self._journal.steps))
        self._journal.note("request", self._app, request.number, len(events))
        batch = IngestBatch(outbox.counters.number(self._app), now_ms, list(events))
        if request.is_odd:
            batch.filtered = 1
            batch.quarantined = [QuarantinedBody("events", "not_json", "No JSON.", b"{")]
        taken = await outbox.writer.append(batch)
        self._journal.note("ack", self._app, request.number, taken.accepted, taken.duplicate)
        assert taken.accepted + taken.duplicate == len(events)
        for event in events:
            fate = self.fates[event.insert_id]
            fate.acked_step = fate.acked_step or self._journal.steps


def _event(
    name: str,
    device: str | None,
    user: str | None,
    flaw: str | None,
    is_padded: bool,  # noqa: FBT001
) -> MappedEvent:
    event: dict[str, object] = {"event_type": "Clicked", "time": START_MS, "insert_id": name}
    properties: dict[str, str] = {}
    if flaw:
        properties["flaw"] = flaw
    if is_padded:
        properties["url"] = "u" * 900
    event["event_properties"] = properties
    if device:
        event["device_id"] = device
    if user:
        event["user_id"] = user
    return MappedEvent(name, device, user, "Clicked", START_MS, orjson.dumps(event))
