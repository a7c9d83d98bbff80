"""The daemon is killed again and again; an oracle outside of it accounts for every 200."""

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
from tests.crash.accounting import breaks, changes, imbalances, untruths
from tests.crash.moments import MOMENTS
from tests.crash.trial import prepared
from tests.support.command_line import API_KEY
from tests.support.daemons import BOOT_S, POLL_S, Doors, living
from tests.support.options import option

pytestmark = pytest.mark.slow

START_S = 5.0
"""A start takes well under a second; more only where the machine does much else."""

MANY = 21_000
"""Past 20,000 events in `events` the daemon moves their keys at once, and then prunes the rows."""

TIDYING = (
    "SELECT count(*) >= 1000 FROM seen",
    "SELECT count(*) >= 9000 FROM seen",
    "SELECT count(*) >= 17000 FROM seen",
    "SELECT count(*) <= 18000 FROM events",
    "SELECT count(*) <= 9000 FROM events",
)
"""How far it has come when it is killed."""

AT_ONCE = 500


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


async def test_a_restart_changes_no_count(tmp_path: Path) -> None:
    """While nothing moves, the counts after a kill are those before it, to the last one."""
    async with prepared(tmp_path, seed=5) as trial:
        trial.amplitude.faults.add("hang")
        good = [trial.campaign.one()[1] for _ in range(50)]
        strange = [b'{"event": {"kind": "message.pigeon.released"}}', b"17"]
        async with living(trial.relay) as life:
            await life.until("relay.ready")
            await trial.doors.post(b"[%b]" % b",".join([*good, *good[:7], *strange]))
            await trial.amplitude.ledger.wait_until(lambda book: book.total_requests > 0)
            before = await trial.doors.standing()
            life.kill()
            await life.ended()
        async with living(trial.relay) as life:
            await life.until("relay.ready")
            after = await trial.doors.standing()
    assert (before.accepted, before.duplicate, before.quarantined) == (50, 7, 2)
    assert breaks(before) == breaks(after) == []
    assert changes(before, after) == []


async def test_killed_while_it_tidies_up_it_forgets_nothing(tmp_path: Path) -> None:
    """Keys move and rows are pruned in many small steps; it is killed between them."""
    async with prepared(tmp_path, seed=6) as trial:
        events = dict(trial.campaign.one() for _ in range(MANY))
        bodies = list(events.values())
        for step in TIDYING:
            async with living(trial.relay) as life:
                await life.until("relay.ready")
                if step == TIDYING[0]:
                    await _post_all(trial.doors, bodies, expected="accepted")
                await _until(trial.relay.folder, step)
                life.kill()
                await life.ended()
        async with living(trial.relay) as life:
            await life.until("relay.ready")
            standing = await trial.doors.drained()
            await _post_all(trial.doors, bodies, expected="duplicate")
        held = trial.amplitude.ledger.account(API_KEY).insert_ids
    assert breaks(standing) == []
    assert standing.accepted == standing.delivered + standing.dead == len(events)
    assert len(held) == len(set(held)) == standing.delivered


async def _post_all(doors: Doors, bodies: Sequence[bytes], *, expected: str) -> None:
    for first in range(0, len(bodies), AT_ONCE):
        some = bodies[first : first + AT_ONCE]
        status, counts = await doors.post(b"[%b]" % b",".join(some))
        assert (status, counts[expected]) == (200, len(some))


async def _until(folder: Path, holds: str) -> None:
    """Return once a query about the database says yes."""
    path = f"file:{folder / DATABASE_NAME}?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as raw, anyio.fail_after(BOOT_S):
        while not raw.execute(holds).fetchone()[0]:
            await anyio.sleep(POLL_S)
