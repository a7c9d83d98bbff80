"""The daemon is killed during downloads; the segment is one whole list or the other."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.listener import running
from relay.segments.store import DATABASE_NAME
from tests.support.command_line import API_KEY
from tests.support.daemons import BOOT_S, POLL_S, fast_relay, running_daemon

pytestmark = pytest.mark.slow

SECRET_KEY = "secret-key-of-the-test"
MEMBERS = 60_000
ONE = [f"user-{number}" for number in range(MEMBERS)]
OTHER = [f"user-{number}" for number in range(MEMBERS // 2, MEMBERS + MEMBERS // 2)]

STAGED = "FROM listed AS l JOIN runs AS r ON r.run_id = l.list WHERE r.state = 'running'"

MOMENTS = (
    "SELECT count(*) FROM runs WHERE state = 'running'",
    "SELECT count(*) FROM runs WHERE state = 'running' AND request_id IS NOT NULL",
    "SELECT count(*) FROM runs WHERE state = 'running' AND is_complete",
    f"SELECT count(*) {STAGED}",
    f"SELECT count(*) >= 40000 {STAGED}",
    "SELECT count(*) FROM runs WHERE state = 'applied' AND run_id > 1",
    "SELECT count(*) FROM discarded_lists",
)
"""How far a reconcile got before the kill."""


def ask(folder: Path, query: str) -> list[tuple[int, ...]]:
    """Query the segment table if its file exists."""
    path = folder / DATABASE_NAME
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as raw:
            return raw.execute(query).fetchall()
    except sqlite3.OperationalError:  # not created yet
        return [(0,)]


async def until(folder: Path, query: str) -> None:
    """Return once a query gives a number above zero."""
    with anyio.fail_after(BOOT_S):
        while not ask(folder, query)[0][0]:
            await anyio.sleep(POLL_S / 10)


def check(folder: Path) -> None:
    """Assert that the segment is whole and agrees with its figures and its changes."""
    with closing(
        sqlite3.connect(folder / DATABASE_NAME)
    ) as raw:  # recovers the log, as a start does
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        members = {user for (user,) in raw.execute("SELECT external_id FROM segment_members")}
        assert members in (set(), set(ONE), set(OTHER))
        figures = raw.execute("SELECT matched_users FROM segments").fetchall()
        assert figures in ([], [(len(members),)])
        followed: set[str] = set()
        for user, change in raw.execute(
            "SELECT external_id, change FROM segment_changes ORDER BY seq"
        ):
            (followed.add if change == "entered" else followed.discard)(user)
        assert followed == members


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_leaves_one_whole_list_and_costs_no_download(
    tmp_path: Path, moment: str
) -> None:
    """The next start finishes the reconcile with the export already requested."""
    cohorts = CohortsStandIn({API_KEY: SECRET_KEY})
    cohorts.put(StandInCohort(id="large", user_ids=ONE))
    async with running(cohorts.app()) as url:
        relay = fast_relay(
            tmp_path,
            "http://127.0.0.1:9",
            COHORTS__POLL_INTERVAL_S="0.2",
            COHORTS__EXPORT_POLL_S="0.1",
            COHORTS__MONTHLY_DOWNLOADS="100000",
            COHORTS__GUARD_REMOVED_RATIO="1",
            APPS__SHOP__MEMBERSHIP="all",
            APPS__SHOP__AMPLITUDE_SECRET_KEY=SECRET_KEY,
            APPS__SHOP__AMPLITUDE_COHORTS_URL=str(url).rstrip("/"),
        )
        folder = relay.folder
        async with running_daemon(relay):
            await until(folder, "SELECT count(*) FROM segments WHERE matched_users > 0")
            cohorts.put(StandInCohort(id="large", user_ids=OTHER))
            await until(folder, moment)
        check(folder)
        async with running_daemon(relay):
            await until(folder, "SELECT count(*) FROM cohort_runs WHERE run_id > 1 AND added > 0")
            with anyio.fail_after(BOOT_S):
                while list(folder.glob("sorting-*")):
                    await anyio.sleep(POLL_S)
        check(folder)
        assert ask(folder, "SELECT count(*) FROM runs WHERE state = 'running'") == [(0,)]
        is_named = "request_id" in moment or cohorts.downloads_this_month == 2
        assert is_named or cohorts.downloads_this_month == 3
