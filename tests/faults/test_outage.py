"""A short outage; `tests/bench/outage.py` has the long form and explains it."""

import anyio.to_thread
import pytest

from tests.bench.outage import OUTAGE, measure
from tests.support.options import option

pytestmark = pytest.mark.slow

EVENTS = option("OUTAGE_EVENTS", 20_000)
SECONDS = option("OUTAGE_SECONDS", 2)

UPLOADS_PER_S = 4
"""While Amplitude is away: one request at a time, with a wait between two."""

GROWTH_MB = 60
SLOWER = 10
SLOW_MS = 500
"""For answers on a machine that is busy with other things; the long form tells the true ratios."""


async def test_an_outage_costs_no_event_no_memory_and_no_webhook_latency() -> None:
    """Every event answered 200 arrives once, and the webhook stays as fast as before."""
    report = await anyio.to_thread.run_sync(measure, EVENTS, SECONDS, 0.0)
    assert (report.arrived, report.repeated) == (report.sent, 0)
    usual = report.phase("before")
    for name in OUTAGE:
        phase = report.phase(name)
        assert phase.rss_mb < usual.rss_mb + GROWTH_MB
        assert phase.wait_ms(0.99) < max(SLOW_MS, SLOWER * usual.wait_ms(0.99))
        if name != "flap":
            assert phase.uploads <= UPLOADS_PER_S * phase.lasted_s + 4
    assert report.phase("way back").rss_mb < usual.rss_mb + GROWTH_MB
