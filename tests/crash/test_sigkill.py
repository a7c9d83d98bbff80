"""The daemon is killed again and again; an external oracle accounts for every 200."""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import anyio
import pytest

from relay.outbox.store import DATABASE_NAME
from tests.crash.accounting import changes, contradictions, imbalances, wrong_counts
from tests.crash.crash_run import prepared
from tests.crash.moments import MOMENTS
from tests.support.command_line import API_KEY
from tests.support.daemons import BOOT_S, POLL_S, Doors, running_daemon
from tests.support.options import option

pytestmark = pytest.mark.slow

START_S = 5.0
"""A start takes well under a second, longer only on a busy machine."""

MANY = 21_000
"""Past 20,000 events in `events` the daemon moves their keys at once, and then prunes the rows."""

TIDYING = (
    "SELECT count(*) >= 1000 FROM seen",
    "SELECT count(*) >= 9000 FROM seen",
    "SELECT count(*) >= 17000 FROM seen",
    "SELECT count(*) <= 18000 FROM events",
    "SELECT count(*) <= 9000 FROM events",
)
"""How far pruning got before the kill."""

AT_ONCE = 500


async def test_every_200_survives_kill_after_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing acknowledged is lost, duplicated or changed, and no count falls."""
    times = option("CRASH_KILLS", 25)
    async with prepared(tmp_path, option("CRASH_SEED", 20261124)) as crashes:
        moments = islice(cycle(MOMENTS), times)
        outcome = await crashes.run(partial(crashes.killed, moment=moment) for moment in moments)
        violations = dict(crashes.amplitude.ledger.violation_counts)
    start_s = median(crashes.starts_s)
    acknowledged = len(outcome.accounts.acknowledged)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{times} kills, {acknowledged} events answered 200, {len(outcome.accounts.held)} at "
            f"Amplitude, {len(outcome.accounts.dead)} dead; start to ready: {start_s:.2f} s median"
            f", {max(crashes.starts_s):.2f} s at most\n"
        )
    assert imbalances(outcome.accounts) == []
    assert wrong_counts(outcome.counts, outcome.accounts) == []
    assert crashes.wrong == []
    assert violations == {}
    assert outcome.again == {
        "accepted": 0,
        "duplicate": acknowledged,
        "filtered": 0,
        "quarantined": 0,
    }
    assert start_s < START_S


async def test_a_restart_changes_no_count(tmp_path: Path) -> None:
    """While nothing moves, the counts after a kill equal those before it."""
    async with prepared(tmp_path, seed=5) as crashes:
        crashes.amplitude.faults.add("hang")
        good = [crashes.traffic.one()[1] for _ in range(50)]
        strange = [b'{"event": {"kind": "message.pigeon.released"}}', b"17"]
        async with running_daemon(crashes.relay) as daemon:
            await daemon.until("relay.ready")
            await crashes.doors.post(b"[%b]" % b",".join([*good, *good[:7], *strange]))
            await crashes.amplitude.ledger.wait_until(lambda account: account.total_requests > 0)
            before = await crashes.doors.counts()
            daemon.kill()
            await daemon.ended()
        async with running_daemon(crashes.relay) as daemon:
            await daemon.until("relay.ready")
            after = await crashes.doors.counts()
    assert (before.accepted, before.duplicate, before.quarantined) == (50, 7, 2)
    assert contradictions(before) == contradictions(after) == []
    assert changes(before, after) == []


async def test_a_kill_during_pruning_loses_nothing(tmp_path: Path) -> None:
    """Keys move and rows are pruned in many small steps; the daemon is killed between them."""
    async with prepared(tmp_path, seed=6) as crashes:
        events = dict(crashes.traffic.one() for _ in range(MANY))
        bodies = list(events.values())
        for step in TIDYING:
            async with running_daemon(crashes.relay) as daemon:
                await daemon.until("relay.ready")
                if step == TIDYING[0]:
                    await _post_all(crashes.doors, bodies, expected="accepted")
                await _until(crashes.relay.folder, step)
                daemon.kill()
                await daemon.ended()
        async with running_daemon(crashes.relay) as daemon:
            await daemon.until("relay.ready")
            counts = await crashes.doors.drained()
            await _post_all(crashes.doors, bodies, expected="duplicate")
        held = crashes.amplitude.ledger.account(API_KEY).insert_ids
    assert contradictions(counts) == []
    assert counts.accepted == counts.delivered + counts.dead == len(events)
    assert len(held) == len(set(held)) == counts.delivered


async def _post_all(doors: Doors, bodies: Sequence[bytes], *, expected: str) -> None:
    for first in range(0, len(bodies), AT_ONCE):
        some = bodies[first : first + AT_ONCE]
        status, counts = await doors.post(b"[%b]" % b",".join(some))
        assert (status, counts[expected]) == (200, len(some))


async def _until(folder: Path, holds: str) -> None:
    """Return once a query of the database is true."""
    path = f"file:{folder / DATABASE_NAME}?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as raw, anyio.fail_after(BOOT_S):
        while not raw.execute(holds).fetchone()[0]:
            await anyio.sleep(POLL_S)
