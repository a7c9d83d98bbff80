"""A segment table for commands, with a daemon or without one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from relay.clock import SystemClock
from relay.segments.guard import GuardPolicy
from tests.support.command_line import CommandLine
from tests.support.segment_tables import open_table

COHORT: Final = "7khm89cz"
OTHER: Final = "b1d"

STRICT: Final = GuardPolicy(0.2, 1)
"""Holds whatever removes more than a fifth."""

HOUR_MS: Final = 3_600_000

EXPLANATION: Final = {
    "cohort_size": 8,
    "empty_ids": 2,
    "restricted_ids": 1,
    "unknown_users": 1,
    "matched_users": 4,
    "matched_without_subscription": 1,
    "only_unsubscribed": 1,
    "subscribed_users": 2,
    "subscribed_count": 3,
}


async def fill(folder: Path) -> None:
    """Make a table with two segments: run 2 of the first is held, run 3 made the second."""
    folder.mkdir(exist_ok=True)
    hour_ago = SystemClock().now_ms() - HOUR_MS
    async with open_table(folder) as table:
        known = {"one": [True], "two": [True, True, False], "silent": [False], "bare": []}
        await table.know(known, at=hour_ago)
        await table.poll(["one", "two"], cohort_id=OTHER, at=hour_ago)
        later = hour_ago + 60_000
        await table.poll(["one"], cohort_id=OTHER, at=later, guard=STRICT)
        listed = ["one", "two", "silent", "bare", "stranger", "NA"]
        await table.poll(listed, cohort_id=COHORT, at=later, empty_ids=2)


@asynccontextmanager
async def filled(root: Path, way: str, **changes: str) -> AsyncIterator[CommandLine]:
    """Yield a filled table, with a daemon or without one.

    Args:
        root: Where the data directory is made.
        way: `daemon`, or anything else for none.
        changes: Of the environment.
    """
    relay = CommandLine(root, RELAY_ADMIN_TOKEN="token-of-the-admin-door", **changes)
    await fill(relay.folder)
    if way != "daemon":
        yield relay
        return
    async with relay.serving():
        yield relay
