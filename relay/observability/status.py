"""The status of every app, for `/status`, `/metrics` and the commands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from relay.clock import Clock
from relay.cohorts.poll_state import PollStatus
from relay.cohorts.poller import Poller
from relay.delivery.circuit_breaker import BreakerState
from relay.delivery.pool import SenderPool
from relay.observability.metrics import AppFigures, SegmentFigures
from relay.outbox.counters import AppCounters, Counts
from relay.segments.read_model import Overview
from relay.segments.store import Segments


@dataclass(frozen=True, slots=True)
class AppStatus:
    """The delivery of one app.

    Attributes:
        counts: From the outbox.
        in_flight: Pending events that senders have claimed.
        oldest_age_s: Since the oldest pending event was accepted, None without any.
        delivery: State of its circuit breaker.
        last_error: Why uploads stand still, None while they do not.
    """

    counts: Counts
    in_flight: int
    oldest_age_s: float | None
    delivery: BreakerState
    last_error: str | None

    @property
    def figures(self) -> AppFigures:
        """The same for `/metrics`."""
        is_halted = self.delivery is BreakerState.HALTED
        return AppFigures(self.counts, self.oldest_age_s or 0.0, is_halted)


@dataclass(frozen=True, slots=True)
class SegmentsStatus:
    """The segments of one app.

    Attributes:
        overview: Their states.
        downloads: Of their cohorts' lists.
    """

    overview: Overview
    downloads: PollStatus

    @property
    def figures(self) -> SegmentFigures:
        """The same for `/metrics`."""
        return SegmentFigures(
            self.overview.states, self.downloads.downloads_left, self.overview.last_applied_at
        )


class ObservedApp(Protocol):
    """The loops of one app that have something to report (`relay.daemon.app_runtime`)."""

    @property
    def delivery(self) -> SenderPool:
        """Carries its events to Amplitude."""

    @property
    def poller(self) -> Poller:
        """Keeps its cohorts current."""


class Status:
    """Reads the status of every app."""

    def __init__(
        self,
        apps: Mapping[str, ObservedApp],
        ledger: AppCounters,
        segments: Segments,
        clock: Clock,
    ) -> None:
        self._apps = apps
        self._ledger = ledger
        self._segments = segments
        self._clock = clock
        self._started_s = clock.monotonic_s()

    @property
    def uptime_s(self) -> float:
        """Seconds since this was made, together with the doors."""
        return self._clock.monotonic_s() - self._started_s

    async def apps(self) -> dict[str, AppStatus]:
        """Return the delivery status of every configured app."""
        states = await self._ledger.states()
        return {
            name: await self._status(app.delivery, states[name].counts)
            for name, app in self._apps.items()
        }

    async def segments(self) -> dict[str, SegmentsStatus]:
        """Return the segments' status of every configured app."""
        catalog, reading = self._segments.cohorts, self._segments.read_model
        return {
            name: SegmentsStatus(
                await reading.overview(name, catalog.number(name)), app.poller.status()
            )
            for name, app in self._apps.items()
        }

    async def _status(self, delivery: SenderPool, counts: Counts) -> AppStatus:
        oldest_at = await delivery.dispatcher.oldest_accepted_at() if counts.pending else None
        age_s = None if oldest_at is None else max(0, self._clock.now_ms() - oldest_at) / 1000
        return AppStatus(
            counts=counts,
            in_flight=min(delivery.dispatcher.in_flight, counts.pending),
            oldest_age_s=age_s,
            delivery=delivery.breaker.state,
            last_error=delivery.breaker.last_error,
        )
