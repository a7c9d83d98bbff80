"""Under load and faults nothing grows but what must; the long form is `tests/soak/soak.py`."""

from pathlib import Path

import pytest

from tests.soak.soak import MB, SEEN_BYTES, soak
from tests.support.options import option

pytestmark = pytest.mark.slow

RATE = 1_000

SENDERS_SLACK = 20
"""Allowance for short-lived connections."""


async def test_nothing_grows_under_load_and_faults(tmp_path: Path) -> None:
    """Memory, descriptors and logs stay flat; space of delivered events is freed."""
    report = await soak(tmp_path, option("SOAK_SECONDS", 30), option("SOAK_RATE", RATE))
    growth = {name: (earlier, later, most) for name, earlier, later, most in report.growth()}
    assert report.sent > 0
    assert (report.lost, report.crashes, report.load.refused) == (0, 0, 0)
    earlier, later, most = growth["resident"]
    assert later < earlier * 1.25 + 10
    assert most < 250
    earlier, later, _ = growth["descriptors"]
    assert later < earlier + SENDERS_SLACK
    assert growth["outbox_log"][2] < 64
    assert growth["segments_log"][2] < 64
    assert report.after.outbox < 5 + report.sent * SEEN_BYTES / MB
