"""`/metrics`. Labels name an app, a route, a state or an outcome, never a user.

Counts of events are read from the outbox at each scrape, so they are correct after a crash;
what the process itself observes (durations, outcomes) starts at zero.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.outbox.counters import Counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_UPLOAD_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)

_EVENT_COUNTS = {
    "relay_events_accepted": ("accepted", "Distinct events accepted and stored."),
    "relay_events_delivered": ("delivered", "Events Amplitude confirmed."),
    "relay_events_dead": ("dead", "Events in the dead letters; a retry removes them."),
    "relay_events_discarded": ("discarded", "Events discarded by the operator, and lost ones."),
    "relay_events_lost": ("lost", "Events lost to disk damage; part of the discarded."),
    "relay_events_duplicate": ("duplicate", "Repeated deliveries recognised."),
    "relay_events_filtered": ("filtered", "Events excluded by the configuration."),
    "relay_bodies_quarantined": ("quarantined", "Bodies ever put into quarantine."),
}


SEGMENT_STATES = ("active", "held", "stale", "archived")


@dataclass(frozen=True, slots=True)
class AppFigures:
    """An app's figures at one moment.

    Attributes:
        counts: From the outbox.
        oldest_age_s: Since the oldest pending event was accepted; 0 without any.
        is_halted: Whether Amplitude refuses the app.
    """

    counts: Counts
    oldest_age_s: float
    is_halted: bool


@dataclass(frozen=True, slots=True)
class SegmentFigures:
    """The figures of an app's segments at one moment.

    Attributes:
        states: Segments by state; a state without any may be missing.
        downloads_left: Downloads of cohorts that remain this month.
        last_applied_at: When a segment was last brought up to date, None if never.
    """

    states: Mapping[str, int]
    downloads_left: int
    last_applied_at: int | None


class _Figures(Collector):
    """Turns figures into metrics."""

    def __init__(self) -> None:
        self.apps: Mapping[str, AppFigures] = {}
        self.segments: Mapping[str, SegmentFigures] = {}

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_events()
        yield from self._collect_segments()

    def _collect_events(self) -> Iterator[Metric]:
        for name, (count, text) in _EVENT_COUNTS.items():
            counter = CounterMetricFamily(name, text, labels=["app"])
            for app, figures in self.apps.items():
                counter.add_metric([app], getattr(figures.counts, count))
            yield counter
        pending = GaugeMetricFamily(
            "relay_outbox_pending", "Events waiting for delivery.", labels=["app"]
        )
        oldest = GaugeMetricFamily(
            "relay_outbox_oldest_seconds", "Age of the oldest waiting event.", labels=["app"]
        )
        halted = GaugeMetricFamily(
            "relay_app_halted", "1 while Amplitude refuses the app's uploads.", labels=["app"]
        )
        for app, figures in self.apps.items():
            pending.add_metric([app], figures.counts.pending)
            oldest.add_metric([app], figures.oldest_age_s)
            halted.add_metric([app], float(figures.is_halted))
        yield from (pending, oldest, halted)

    def _collect_segments(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("relay_segments", "Segments by state.", labels=["app", "state"])
        left = GaugeMetricFamily(
            "relay_cohort_downloads_left",
            "Downloads of cohorts that remain this month.",
            labels=["app"],
        )
        applied = GaugeMetricFamily(
            "relay_cohort_last_applied_timestamp_seconds",
            "When a segment was last brought up to date.",
            labels=["app"],
        )
        for app, figures in self.segments.items():
            for state in SEGMENT_STATES:
                states.add_metric([app, state], figures.states.get(state, 0))
            left.add_metric([app], figures.downloads_left)
            if figures.last_applied_at is not None:
                applied.add_metric([app], figures.last_applied_at / 1000)
        yield from (states, left, applied)


class Metrics:
    """The process's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._figures = _Figures()
        self._registry.register(self._figures)
        self._uploads = Counter(
            "relay_uploads", "Uploads by outcome.", ["app", "outcome"], registry=self._registry
        )
        self._upload_s = Histogram(
            "relay_upload_duration_seconds",
            "Time of one upload.",
            ["app"],
            buckets=_UPLOAD_BUCKETS_S,
            registry=self._registry,
        )
        self._request_s = Histogram(
            "relay_http_request_duration_seconds",
            "Time to answer a request.",
            ["route", "status"],
            buckets=_REQUEST_BUCKETS_S,
            registry=self._registry,
        )

        self._requests: dict[tuple[str, int], Histogram] = {}

    def request_answered(self, route: str, status: int, duration_s: float) -> None:
        """Count one answered request; `route` is the pattern, never the path."""
        place = (route, status)
        if place not in self._requests:
            self._requests[place] = self._request_s.labels(route, str(status))
        self._requests[place].observe(duration_s)

    def meter(self, app: str) -> "UploadMeter":
        """Return the counter of an app's uploads."""
        return UploadMeter(app, self._uploads, self._upload_s)

    def render(
        self, apps: Mapping[str, AppFigures], segments: Mapping[str, SegmentFigures]
    ) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self._figures.apps = apps
        self._figures.segments = segments
        return generate_latest(self._registry)


class UploadMeter:
    """Counts the uploads of one app."""

    def __init__(self, app: str, uploads: Counter, durations: Histogram) -> None:
        self._app = app
        self._uploads = uploads
        self._duration = durations.labels(app)

    def uploaded(self, outcome: str, duration_s: float) -> None:
        """Count one upload with its outcome (a `verdicts.name_outcome` word) and duration."""
        self._uploads.labels(self._app, outcome).inc()
        self._duration.observe(duration_s)
