"""Amplitude's limits on cohort exports."""

from relay.sandbox.cohorts.conditions import CohortLimits
from relay.sandbox.cohorts.project import Meter, month_end

DECEMBER = 1_767_225_599_999
"""The last millisecond of 2025."""


def test_months_are_counted_apart() -> None:
    """In UTC, to the millisecond."""
    meter = Meter()
    meter.count(DECEMBER)
    assert (meter.in_month(DECEMBER), meter.in_month(DECEMBER + 1)) == (1, 0)
    assert month_end(DECEMBER) == "2026-01-01T00:00:00Z"
    assert month_end(DECEMBER + 1) == "2026-02-01T00:00:00Z"


def test_the_window_slides() -> None:
    """An export counts for the whole window and no longer."""
    meter, limits = Meter(), CohortLimits(per_window=1, window_s=10)
    meter.count(1_000)
    assert meter.exceeded(limits, 0, 10_999) is not None
    assert meter.exceeded(limits, 0, 11_000) is None
