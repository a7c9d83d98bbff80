"""The OneSignal stand-in against a hook that answers on command."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import anyio
import orjson
import pytest
from aiohttp import web
from yarl import URL

from relay.sandbox.common.listener import running
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.event_stream import EventStream, StreamOptions
from relay.sandbox.onesignal.traffic import RawEvent, Traffic, TrafficOptions

HASTY = {"retry_base_s": 0.001, "retry_cap_s": 0.002}


@dataclass
class Hook:
    """A receiver that plays a script of statuses, then answers 200.

    Attributes:
        script: Statuses to answer first; 0 hangs until the end.
        headers: Of every answer.
        always: What is answered after the script.
        quorum: Number of requests that must be present before any is answered.
    """

    script: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    always: int = 200
    bodies: list[bytes] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    present: int = 0
    most_present: int = 0
    quorum: int = 0
    url: URL = field(default_factory=URL)
    arrived: anyio.Event = field(default_factory=anyio.Event)
    ending: anyio.Event = field(default_factory=anyio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one event."""
        self.present += 1
        self.most_present = max(self.most_present, self.present)
        self.bodies.append(await request.read())
        self.heads.append(dict(request.headers))
        self.arrived.set()
        status = self.script.pop(0) if self.script else self.always
        if status == 0 or self.most_present < self.quorum:
            await self.ending.wait()
        elif self.quorum:
            self.ending.set()
        self.present -= 1
        return web.json_response({"accepted": 1}, status=status or 200, headers=self.headers)

    @property
    def event_ids(self) -> list[str]:
        """Ids in order of arrival, repeats included."""
        return [str(orjson.loads(body)["event"]["id"]) for body in self.bodies]


@asynccontextmanager
async def hooked(hook: Hook) -> AsyncIterator[Hook]:
    """Serve the hook for the length of a test."""
    app = web.Application()
    app.router.add_post("/hook", hook.handle)
    with anyio.fail_after(10):
        async with running(app) as url:
            hook.url = url / "hook"
            yield hook
            hook.ending.set()


def stream_to(hook: Hook, **options: object) -> EventStream:
    """Return a stream with quick retries."""
    target = Target(hook.url, "secret-token", {"X-Extra": "1"})
    return EventStream(target, StreamOptions.model_validate({**HASTY, **options}), rng=Random(3))


def events(count: int) -> list[RawEvent]:
    """Return `count` events."""
    return Traffic(TrafficOptions("app"), Random(1)).take(count)


def ids(raw: list[RawEvent]) -> list[str]:
    """Return their ids."""
    return [str(event["event"]["id"]) for event in raw]


async def test_each_event_is_one_post_with_the_token() -> None:
    """One request per event, with the headers of the stream, and all are acknowledged."""
    async with hooked(Hook()) as hook, stream_to(hook, concurrency=1) as stream:
        sent = events(20)
        await stream.send(sent)
        assert hook.event_ids == ids(sent)
        assert hook.heads[0]["Authorization"] == "Bearer secret-token"
        assert hook.heads[0]["X-Extra"] == "1"
        assert list(stream.oracle.acknowledged) == ids(sent)
        assert stream.oracle.answers == {"200": 20}
        assert stream.oracle.receipts == {"accepted": 20}
        assert len(stream.oracle.latencies_ms) == 20


async def test_concurrency_is_bounded() -> None:
    """Never more requests at once than asked for."""
    async with hooked(Hook(quorum=5)) as hook, stream_to(hook, concurrency=5) as stream:
        await stream.send(events(100))
        assert hook.most_present == 5


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_recoverable_failures_are_tried_again(status: int) -> None:
    """The same bytes come again until they are accepted."""
    async with hooked(Hook([status, status])) as hook, stream_to(hook) as stream:
        await stream.send(events(1))
        assert len(hook.bodies) == 3
        assert len(set(hook.bodies)) == 1
        assert len(stream.oracle.acknowledged) == 1
        assert stream.oracle.retries == 2


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413])
async def test_other_refusals_drop_the_event(status: int) -> None:
    """Nothing is tried twice that cannot succeed."""
    async with hooked(Hook([status])) as hook, stream_to(hook) as stream:
        sent = events(1)
        await stream.send(sent)
        assert len(hook.bodies) == 1
        assert stream.oracle.dropped == 1
        assert stream.oracle.unacknowledged == set(ids(sent))


async def test_events_fail_permanently_after_the_last_attempt() -> None:
    """Then they are lost."""
    async with hooked(Hook(always=500)) as hook, stream_to(hook, max_attempts=3) as stream:
        await stream.send(events(2))
        assert len(hook.bodies) == 6
        assert stream.oracle.failed_permanently == 2
        assert stream.oracle.acknowledged == {}


async def test_retry_after_is_honoured() -> None:
    """A second is longer than the usual delay of this test."""
    async with hooked(Hook([503], {"Retry-After": "1"})) as hook, stream_to(hook) as stream:
        before_s = anyio.current_time()
        await stream.send(events(1))
        assert anyio.current_time() - before_s >= 1


async def test_timeouts_and_broken_connections_are_failures() -> None:
    """A hook that does not answer is tried again."""
    async with hooked(Hook([0])) as hook, stream_to(hook, timeout_s=0.05) as stream:
        await stream.send(events(1))
        assert stream.oracle.answers["timeout"] >= 1
        assert stream.oracle.answers["200"] == 1
    async with stream_to(hook, max_attempts=2) as stream:
        await stream.send(events(1))
        assert stream.oracle.answers == {"connection": 2}
        assert stream.oracle.failed_permanently == 1


async def test_failures_in_a_row_switch_the_stream_off_until_enabled() -> None:
    """What is due while it is off is lost; somebody enables it again."""
    options = {"off_after_failures": 3, "max_attempts": 1, "concurrency": 1}
    async with (
        hooked(Hook([500, 200, 500, 500, 500])) as hook,
        stream_to(hook, **options) as stream,
    ):
        await stream.send(events(8))
        assert not stream.is_on
        assert len(hook.bodies) == 5
        assert stream.oracle.lost_while_off == 3
        stream.enable()
        await stream.send(events(1))
        assert len(hook.bodies) == 6


async def test_duplicates_arrive_twice_and_count_once() -> None:
    """The oracle knows distinct events."""
    async with hooked(Hook()) as hook, stream_to(hook, duplicate_rate=1) as stream:
        await stream.send(events(30))
        assert set(Counter(hook.event_ids).values()) == {2}
        assert len(stream.oracle.acknowledged) == 30


async def test_hostile_requests_are_counted_apart() -> None:
    """A 200 for what cannot be delivered promises nothing."""
    async with hooked(Hook()) as hook, stream_to(hook, broken_rate=1) as stream:
        await stream.send(events(5))
        assert stream.oracle.hostile_acknowledged == 5
        assert stream.oracle.attempted == set()


async def test_rate_spreads_the_events() -> None:
    """Twenty events at a hundred a second take at least a fifth of a second less one step."""
    async with hooked(Hook()) as hook, stream_to(hook, rate_per_s=100) as stream:
        before_s = anyio.current_time()
        await stream.send(events(20))
        assert anyio.current_time() - before_s >= 0.18


async def test_a_cancelled_stream_leaves_events_unacknowledged() -> None:
    """What was not answered was not promised."""
    async with hooked(Hook([0])) as hook, stream_to(hook) as stream:
        sent = events(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, sent)
            await hook.arrived.wait()
            tasks.cancel_scope.cancel()
        assert stream.oracle.unacknowledged == set(ids(sent))
