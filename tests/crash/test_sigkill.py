"""The daemon is killed again and again; an oracle outside of it accounts for every 200."""

import sys
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import pytest

from tests.crash.accounting import imbalances, untruths
from tests.crash.moments import MOMENTS
from tests.crash.trial import option, prepared

pytestmark = pytest.mark.slow

START_S = 5.0
"""A start takes well under a second; more only where the machine does much else."""


async def test_every_200_survives_kill_after_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing acknowledged is lost, counted twice or changed, and no count is forgotten."""
    times = option("CRASH_KILLS", 25)
    async with prepared(tmp_path, option("CRASH_SEED", 20261124)) as trial:
        moments = islice(cycle(MOMENTS), times)
        outcome = await trial.run(partial(trial.killed, moment=moment) for moment in moments)
        violations = dict(trial.amplitude.ledger.violation_counts)
    start_s = median(trial.starts_s)
    acknowledged = len(outcome.books.acknowledged)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{times} kills, {acknowledged} events answered 200, {len(outcome.books.held)} at "
            f"Amplitude, {len(outcome.books.dead)} dead; start to ready: {start_s:.2f} s median, "
            f"{max(trial.starts_s):.2f} s at most\n"
        )
    assert imbalances(outcome.books) == []
    assert untruths(outcome.standing, outcome.books) == []
    assert trial.wrong == []
    assert violations == {}
    assert outcome.again == {
        "accepted": 0,
        "duplicate": acknowledged,
        "filtered": 0,
        "quarantined": 0,
    }
    assert start_s < START_S
