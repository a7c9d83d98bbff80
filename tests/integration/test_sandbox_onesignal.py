"""The OneSignal stand-in against a scripted webhook."""

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
class ScriptedWebhook:
    """A webhook that plays a script of statuses, then answers 200.

    Attributes:
        script: Statuses to answer first; 0 hangs until the end.
        headers: Of every response.
        always: Status after the script.
        quorum: Requests that must be present before any is answered.
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
async def serving(webhook: ScriptedWebhook) -> AsyncIterator[ScriptedWebhook]:
    """Serve the webhook for the duration of a test."""
    app = web.Application()
    app.router.add_post("/hook", webhook.handle)
    with anyio.fail_after(10):
        async with running(app) as url:
            webhook.url = url / "hook"
            yield webhook
            webhook.ending.set()


def stream_to(webhook: ScriptedWebhook, **options: object) -> EventStream:
    """Return a stream with quick retries."""
    target = Target(webhook.url, "secret-token", {"X-Extra": "1"})
    return EventStream(target, StreamOptions.model_validate({**HASTY, **options}), rng=Random(3))


def events(count: int) -> list[RawEvent]:
    """Return `count` events."""
    return Traffic(TrafficOptions("app"), Random(1)).take(count)


def ids(raw: list[RawEvent]) -> list[str]:
    """Return their ids."""
    return [str(event["event"]["id"]) for event in raw]


async def test_each_event_is_one_post_with_the_token() -> None:
    """One request per event, with the headers of the stream, and all are acknowledged."""
    async with serving(ScriptedWebhook()) as webhook, stream_to(webhook, concurrency=1) as stream:
        sent = events(20)
        await stream.send(sent)
        assert webhook.event_ids == ids(sent)
        assert webhook.heads[0]["Authorization"] == "Bearer secret-token"
        assert webhook.heads[0]["X-Extra"] == "1"
        assert list(stream.oracle.acknowledged) == ids(sent)
        assert stream.oracle.answers == {"200": 20}
        assert stream.oracle.receipts == {"accepted": 20}
        assert len(stream.oracle.latencies_ms) == 20


async def test_concurrency_is_bounded() -> None:
    """Never more concurrent requests than configured."""
    async with (
        serving(ScriptedWebhook(quorum=5)) as webhook,
        stream_to(webhook, concurrency=5) as stream,
    ):
        await stream.send(events(100))
        assert webhook.most_present == 5


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_recoverable_failures_are_retried(status: int) -> None:
    """The same bytes are resent until they are accepted."""
    async with serving(ScriptedWebhook([status, status])) as webhook, stream_to(webhook) as stream:
        await stream.send(events(1))
        assert len(webhook.bodies) == 3
        assert len(set(webhook.bodies)) == 1
        assert len(stream.oracle.acknowledged) == 1
        assert stream.oracle.retries == 2


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413])
async def test_other_rejections_drop_the_event(status: int) -> None:
    """Hopeless requests are not retried."""
    async with serving(ScriptedWebhook([status])) as webhook, stream_to(webhook) as stream:
        sent = events(1)
        await stream.send(sent)
        assert len(webhook.bodies) == 1
        assert stream.oracle.dropped == 1
        assert stream.oracle.unacknowledged == set(ids(sent))


async def test_events_fail_permanently_after_the_last_attempt() -> None:
    """Then they are lost."""
    async with (
        serving(ScriptedWebhook(always=500)) as webhook,
        stream_to(webhook, max_attempts=3) as stream,
    ):
        await stream.send(events(2))
        assert len(webhook.bodies) == 6
        assert stream.oracle.failed_permanently == 2
        assert stream.oracle.acknowledged == {}


async def test_retry_after_is_honoured() -> None:
    """A second is longer than this test's usual delay."""
    async with (
        serving(ScriptedWebhook([503], {"Retry-After": "1"})) as webhook,
        stream_to(webhook) as stream,
    ):
        before_s = anyio.current_time()
        await stream.send(events(1))
        assert anyio.current_time() - before_s >= 1


async def test_timeouts_and_broken_connections_are_failures() -> None:
    """A webhook that does not answer is retried."""
    async with (
        serving(ScriptedWebhook([0])) as webhook,
        stream_to(webhook, timeout_s=0.05) as stream,
    ):
        await stream.send(events(1))
        assert stream.oracle.answers["timeout"] >= 1
        assert stream.oracle.answers["200"] == 1
    async with stream_to(webhook, max_attempts=2) as stream:
        await stream.send(events(1))
        assert stream.oracle.answers == {"connection": 2}
        assert stream.oracle.failed_permanently == 1


async def test_failures_in_a_row_switch_the_stream_off_until_enabled() -> None:
    """Events due meanwhile are lost until it is enabled again."""
    options = {"off_after_failures": 3, "max_attempts": 1, "concurrency": 1}
    async with (
        serving(ScriptedWebhook([500, 200, 500, 500, 500])) as webhook,
        stream_to(webhook, **options) as stream,
    ):
        await stream.send(events(8))
        assert not stream.is_on
        assert len(webhook.bodies) == 5
        assert stream.oracle.lost_while_off == 3
        stream.enable()
        await stream.send(events(1))
        assert len(webhook.bodies) == 6


async def test_duplicates_arrive_twice_and_count_once() -> None:
    """The oracle knows distinct events."""
    async with (
        serving(ScriptedWebhook()) as webhook,
        stream_to(webhook, duplicate_rate=1) as stream,
    ):
        await stream.send(events(30))
        assert set(Counter(webhook.event_ids).values()) == {2}
        assert len(stream.oracle.acknowledged) == 30


async def test_hostile_requests_are_counted_apart() -> None:
    """A 200 for an undeliverable request promises nothing."""
    async with serving(ScriptedWebhook()) as webhook, stream_to(webhook, broken_rate=1) as stream:
        await stream.send(events(5))
        assert stream.oracle.hostile_acknowledged == 5
        assert stream.oracle.attempted == set()


async def test_rate_spreads_the_events() -> None:
    """Twenty events at a hundred a second take at least a fifth of a second less one step."""
    async with serving(ScriptedWebhook()) as webhook, stream_to(webhook, rate_per_s=100) as stream:
        before_s = anyio.current_time()
        await stream.send(events(20))
        assert anyio.current_time() - before_s >= 0.18


async def test_a_cancelled_stream_leaves_events_unacknowledged() -> None:
    """Unanswered events are not promised."""
    async with serving(ScriptedWebhook([0])) as webhook, stream_to(webhook) as stream:
        sent = events(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, sent)
            await webhook.arrived.wait()
            tasks.cancel_scope.cancel()
        assert stream.oracle.unacknowledged == set(ids(sent))
