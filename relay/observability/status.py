"""How everything stands, read in one go for `/status`, `/metrics` and the commands."""

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
    """How one app stands.

    Attributes:
        counts: From the outbox.
        in_flight: Pending events in senders' hands.
        oldest_age_s: Since the oldest pending event was accepted, None without any.
        delivery: Whether uploads go.
        last_error: Why they do not, None while they do.
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
    """How an app's segments stand.

    Attributes:
        overview: The segments themselves.
        downloads: Of their cohorts.
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
    """Reads how every app stands."""

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
        """Return every configured app's status."""
        states = await self._ledger.states()
        return {
            name: await self._status(app.delivery, states[name].counts)
            for name, app in self._apps.items()
        }

    async def segments(self) -> dict[str, SegmentsStatus]:
        """Return how every configured app's segments stand."""
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
