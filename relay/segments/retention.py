"""What the segment table removes, and when: in short transactions, some rows at a time."""

import sqlite3
from functools import partial

from relay.database.database import Database
from relay.database.disk import vacuum
from relay.segments.review import UNDOABLE_RUNS
from relay.segments.sql import SQL

DAY_MS = 86_400_000

CHANGES_MS = 90 * DAY_MS
"""How long followers of a segment can read a change."""

RUNS_MS = 90 * DAY_MS
"""At least a month: runs also count the month's downloads."""

MESSAGES_MS = 30 * DAY_MS
SIGHTINGS_MS = 30 * DAY_MS

DEPARTURES_MS = 7 * DAY_MS
"""How long followers can read that a forgotten user left."""

CHUNK_ROWS = 5_000


class Retention:
    """Keeps the segment table from growing without bound."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def step(self, now_ms: int) -> bool:
        """Remove some rows that are no longer needed; False if there were none."""
        return await self._database.write(partial(_step, now_ms))

    async def vacuum(self, pages: int) -> None:
        """Return up to `pages` free pages to the file system."""
        await self._database.write(lambda raw: vacuum(raw, pages))


def _step(now_ms: int, raw: sqlite3.Connection) -> bool:
    raw.execute(SQL["drop_old_sightings"], {"before": now_ms - SIGHTINGS_MS})
    departed = {"before": now_ms - DEPARTURES_MS}
    raw.execute(SQL["drop_departures"], departed)
    raw.execute(SQL["close_departures"], departed)
    return _drop_list(raw) or _drop_history(raw) or _drop_old(raw, now_ms)


def _drop_list(raw: sqlite3.Connection) -> bool:
    row = raw.execute(SQL["discarded_list"]).fetchone()
    if row is None:
        return False
    scope = {"list": row[0], "limit": CHUNK_ROWS}
    if raw.execute(SQL["drop_listed"], scope).rowcount < CHUNK_ROWS:
        raw.execute(SQL["drop_discarded_list"], scope)
    return True


def _drop_history(raw: sqlite3.Connection) -> bool:
    row = raw.execute(SQL["spent_delta"], {"keep": UNDOABLE_RUNS}).fetchone()
    if row is None:
        return False
    raw.execute(SQL["drop_spent_delta"], {"run": row[0], "limit": CHUNK_ROWS})
    return True


def _drop_old(raw: sqlite3.Connection, now_ms: int) -> bool:
    dropped = 0
    for query, age_ms in (
        ("drop_old_messages", MESSAGES_MS),
        ("drop_old_changes", CHANGES_MS),
        ("drop_old_runs", RUNS_MS),
    ):
        aged = {"before": now_ms - age_ms, "limit": CHUNK_ROWS}
        dropped += raw.execute(SQL[query], aged).rowcount
    return dropped > 0
