"""OneSignal's Event Streams as a source of requests: one POST per event, retried, then lost.

429, 408, 5xx, timeouts and broken connections are retried a few times with growing delay;
any other refusal drops the event at once. Too many failures in a row switch the stream off
until somebody enables it; events of that time are lost.

OneSignal publishes none of the numbers; the defaults are guesses on the harsh side.
Source: OneSignal Event Streams page, 2026.
"""

from collections.abc import Iterable
from random import Random
from typing import Final, Self

import anyio
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from pydantic import BaseModel, ConfigDict, Field

from relay.clock import Clock, SystemClock
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.oracle import Oracle
from relay.sandbox.onesignal.requests import Anomalies, StreamRequest, make_requests
from relay.sandbox.onesignal.templates import Renderer, Rendering
from relay.sandbox.onesignal.traffic import RawEvent

_RETRIED: Final = frozenset({408, 429})
_FIRST_SERVER_ERROR: Final = 500
_SUCCESS: Final = 2


class SendingPolicy(BaseModel):
    """How the stream sends and gives up.

    Attributes:
        concurrency: Requests at the same time, each on a connection kept alive.
        rate_per_s: First attempts per second; None = as fast as possible.
        timeout_s: Of one request, whole.
        max_attempts: Attempts per event.
        retry_base_s: Delay after the first failure; doubles with each further one.
        retry_cap_s: Longest delay; a longer `Retry-After` is honoured all the same.
        off_after_failures: Failed attempts in a row that switch the stream off; None = never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int = Field(default=20, ge=1, le=1_000)
    rate_per_s: float | None = Field(default=None, gt=0)
    timeout_s: float = Field(default=10.0, gt=0)
    max_attempts: int = Field(default=5, ge=1)
    retry_base_s: float = Field(default=1.0, ge=0)
    retry_cap_s: float = Field(default=60.0, ge=0)
    off_after_failures: int | None = Field(default=None, ge=1)


class StreamOptions(SendingPolicy, Anomalies, Rendering):
    """All options of a stream except its target, in one flat model."""


class EventStream:
    """One event stream; use as an async context manager.

    Attributes:
        oracle: What was sent, and how it was answered.
        is_on: Whether it sends; a stream that is off loses its events.
        consecutive_failures: Failed attempts since the last success.
    """

    def __init__(
        self,
        target: Target,
        options: StreamOptions | None = None,
        *,
        rng: Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._target = target
        self._options = options or StreamOptions()
        self._rng = rng or Random(0)  # noqa: S311 - traffic, not secrets
        self._clock: Clock = clock or SystemClock()
        self._renderer = Renderer(self._options)
        self._slots = anyio.Semaphore(self._options.concurrency)
        self._session: ClientSession | None = None
        self.oracle = Oracle()
        self.is_on = True
        self.consecutive_failures = 0

    async def __aenter__(self) -> Self:
        """Open the connections' pool."""
        self._session = ClientSession(
            connector=TCPConnector(limit=self._options.concurrency),
            timeout=ClientTimeout(total=self._options.timeout_s),
            headers=self._target.all_headers(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._session is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._session.close()

    def enable(self) -> None:
        """Switch the stream on again, as somebody would in the dashboard."""
        self.is_on = True
        self.consecutive_failures = 0

    async def send(self, events: Iterable[RawEvent]) -> None:
        """Send events, and return when each is acknowledged, dropped or given up.

        Cancel it to stop: what is not answered by then remains unacknowledged.
        """
        rate, starts_s = self._options.rate_per_s, self._clock.monotonic_s()
        requests = make_requests(events, self._renderer, self._options, self._rng)
        async with anyio.create_task_group() as tasks:
            for number, request in enumerate(requests):
                if rate is not None:
                    due_s = starts_s + number / rate
                    await anyio.sleep(max(0.0, due_s - self._clock.monotonic_s()))
                await self._slots.acquire()
                tasks.start_soon(self._deliver, request, name="sandbox event")

    async def _deliver(self, request: StreamRequest) -> None:
        """Send a request until it is acknowledged, dropped or given up; a slot is taken."""
        try:
            wait_s = await self._attempt(request)
        finally:
            # Between attempts the slot is free: a failing event must not block the others.
            self._slots.release()
        options = self._options
        for failures in range(1, options.max_attempts):
            if wait_s is None:
                return
            delay_s = min(options.retry_cap_s, options.retry_base_s * 2.0 ** (failures - 1))
            await anyio.sleep(max(delay_s, wait_s))
            self.oracle.retries += 1
            async with self._slots:
                wait_s = await self._attempt(request)
        if wait_s is not None:
            self.oracle.failed_permanently += 1

    async def _attempt(self, request: StreamRequest) -> float | None:
        """Return the least wait before the next attempt; None = there is none."""
        if not self.is_on or self._session is None:
            # Nothing is kept for later: OneSignal drops what a stream that is off should send.
            self.oracle.lost_while_off += 1
            return None
        self.oracle.attempt(request)
        try:
            return await self._post(self._session, request)
        except TimeoutError:
            self.oracle.answers["timeout"] += 1
        except ClientError:
            self.oracle.answers["connection"] += 1
        self._fail()
        # Without an answer there is no `Retry-After`: the backoff alone decides.
        return 0.0

    async def _post(self, session: ClientSession, request: StreamRequest) -> float | None:
        started_s = self._clock.monotonic_s()
        async with session.post(
            self._target.url, data=request.body, allow_redirects=False
        ) as response:
            self.oracle.answers[str(response.status)] += 1
            self.oracle.latencies_ms.append((self._clock.monotonic_s() - started_s) * 1000)
            if response.status // 100 == _SUCCESS:
                # From the status line on relay has promised it, even if the body breaks off.
                self.oracle.acknowledge(request, self._clock.now_ms())
                self.consecutive_failures = 0
                self.oracle.add_receipt(await response.read())
                return None
            self._fail()
            if response.status in _RETRIED or response.status >= _FIRST_SERVER_ERROR:
                return _seconds(response.headers.get("Retry-After"))
            self.oracle.dropped += 1
            return None

    def _fail(self) -> None:
        self.consecutive_failures += 1
        limit = self._options.off_after_failures
        if limit is not None and self.consecutive_failures >= limit:
            self.is_on = False


def _seconds(retry_after: str | None) -> float:
    """Return the seconds that a header demands; 0 for a date or nonsense."""
    return float(int(retry_after)) if retry_after and retry_after.isdecimal() else 0.0
