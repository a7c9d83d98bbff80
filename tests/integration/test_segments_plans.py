"""Query plans of the segment table: by index, whatever the tables grow to."""

import re
import sqlite3
from pathlib import Path

import pytest

from relay.segments.sql import SQL
from tests.support.segment_tables import open_table

# Tables that stay small, or contain only the rows of one transaction.
SMALL = {
    "apps",
    "cohorts",
    "restricted",
    "touched",
    "incoming",
    "json_each",
    "discarded_lists",
    "departures",
    "sightings",
    "salt",
}

# Queries that may scan a large table, and why.
READ_THROUGH = {
    "forgotten": "once, at the start",
    "changes_of_user": "erasures are rare, and it runs on the reading connection",
    "count_users": "asked by an operator",
    "count_subscriptions": "asked by an operator",
    "spent_delta": "a handful of runs, collected on the way",
    "drop_old_runs": "the oldest, as many as may be dropped at once",
    "drop_old_changes": "the oldest, as many as may be dropped at once",
}

ALIAS = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\([^)]*\))?(?:\s+AS\s+(\w+))?")
PARAMETER = re.compile(r":(\w+)")
CREATES = ("make_touched", "make_incoming")


def _plan(raw: sqlite3.Connection, query: str) -> list[str]:
    names = dict.fromkeys(PARAMETER.findall(SQL[query]))
    rows = raw.execute(f"EXPLAIN QUERY PLAN {SQL[query]}", names).fetchall()
    return [str(row[3]) for row in rows]


def _tables(raw: sqlite3.Connection, query: str) -> dict[str, str]:
    """Return the table behind every name in a query and in the views it reads."""
    views = dict(raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall())
    texts = [SQL[query], *(sql for name, sql in views.items() if name in SQL[query])]
    return {alias or table: table for text in texts for table, alias in ALIAS.findall(text)}


def _scanned(raw: sqlite3.Connection, query: str) -> set[str]:
    """Return the tables a query scans."""
    tables = _tables(raw, query)
    scans = [step.split()[1] for step in _plan(raw, query) if step.startswith("SCAN")]
    return {tables.get(name, name) for name in scans if name != "CONSTANT" and name[0] != "("}


async def _ask(folder: Path, query: str) -> tuple[list[str], set[str]]:
    async with open_table(folder) as table:
        return await table.store.database.write(
            lambda raw: (_plan(raw, query), _scanned(raw, query))
        )


async def test_no_query_scans_a_large_table(tmp_path: Path) -> None:
    """What takes a moment with a thousand rows must not take minutes with ten million."""
    async with open_table(tmp_path) as table:
        scanned = await table.store.database.write(
            lambda raw: {name: _scanned(raw, name) - SMALL for name in SQL if name not in CREATES}
        )
    found = {name: tables for name, tables in scanned.items() if tables}
    assert {name: found[name] for name in found if name not in READ_THROUGH} == {}


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        ("stage", "SEARCH o USING PRIMARY KEY (list=? AND external_id=?)"),
        ("add_delta_entered", "SEARCH n USING PRIMARY KEY (list=? AND external_id>?"),
        ("add_delta_entered", "SEARCH o USING PRIMARY KEY (list=? AND external_id=?)"),
        ("add_delta_left", "SEARCH o USING PRIMARY KEY (list=? AND external_id>?"),
        ("add_delta_left", "SEARCH n USING PRIMARY KEY (list=? AND external_id=?)"),
        ("range_end", "SEARCH listed USING PRIMARY KEY (list=? AND external_id>?)"),
        ("overrides_enter", "SEARCH m USING PRIMARY KEY (cohort=?)"),
        ("overrides_leave", "SEARCH listed USING PRIMARY KEY (list=? AND external_id=?)"),
        ("drop_overridden_delta", "SEARCH run_changes USING PRIMARY KEY (run=? AND external_id=?)"),
        ("figures_of_delta", "SEARCH h USING PRIMARY KEY (run=?)"),
        ("figures_of_delta", "SEARCH u USING PRIMARY KEY (app=? AND external_id=?)"),
        ("figures_of_list", "SEARCH l USING PRIMARY KEY (list=?)"),
        ("figures_of_touched", "SEARCH l USING PRIMARY KEY (list=? AND external_id=?)"),
        ("figures_of_touched", "SEARCH u USING PRIMARY KEY (app=? AND external_id=?)"),
        ("log_delta", "SEARCH h USING PRIMARY KEY (run=?)"),
        ("log_members", "SEARCH l USING PRIMARY KEY (list=?)"),
        ("log_touched", "SEARCH l USING PRIMARY KEY (list=? AND external_id=?)"),
        ("enter", "SEARCH run_changes USING PRIMARY KEY (run=?)"),
        ("leave", "SEARCH listed USING PRIMARY KEY (list=? AND external_id=?)"),
        ("add_delta_of_message", "SEARCH m USING PRIMARY KEY (cohort=? AND external_id=?)"),
        ("add_delta_of_message", "SEARCH l USING PRIMARY KEY (list=? AND external_id=?)"),
        ("moved_by_messages", "SEARCH h USING PRIMARY KEY (run=?)"),
        ("moved_by_messages", "SEARCH l USING PRIMARY KEY (list=? AND external_id=?)"),
        ("members_passing", "SEARCH d USING PRIMARY KEY (run=?)"),
        ("members_passing", "SEARCH h USING PRIMARY KEY (run=? AND external_id=?)"),
        ("message_runs", "SEARCH runs USING INDEX runs_by_cohort (cohort=?)"),
        ("members", "SEARCH l USING PRIMARY KEY (list=?)"),
        ("members", "SEARCH u USING PRIMARY KEY (app=? AND external_id=?)"),
        ("changes_page", "SEARCH h USING INDEX changes_by_cohort (cohort=? AND seq>?)"),
        ("ids_behind", "SEARCH l USING PRIMARY KEY (list=?)"),
        ("cohorts_of_user", "SEARCH l USING PRIMARY KEY (list=? AND external_id=?)"),
        ("find_news", "SEARCH s USING INDEX subscriptions_by_id (app=? AND id=?)"),
        ("subscription", "INDEX subscriptions_by_id (app=? AND id=?)"),
        ("subscriptions_of", "SEARCH s USING PRIMARY KEY (app=? AND external_id=?)"),
        ("refresh_users", "SEARCH s USING PRIMARY KEY (app=? AND external_id=?)"),
        ("touch_gone", "SEARCH s USING PRIMARY KEY (app=? AND external_id>?"),
        ("drop_gone", "SEARCH subscriptions USING PRIMARY KEY (app=? AND external_id>?"),
        ("touch_absent_users", "SEARCH u USING PRIMARY KEY (app=? AND external_id>?"),
        ("segments_page", "runs_held (cohort=?)"),
    ],
)
async def test_a_hot_query_uses_its_index(tmp_path: Path, query: str, needed: str) -> None:
    """Listed explicitly, so that a changed plan shows up at its query."""
    steps, _ = await _ask(tmp_path, query)
    assert needed in " | ".join(steps)


@pytest.mark.parametrize("query", ["members", "changes_page", "ids_behind", "runs_page", "undo"])
async def test_a_long_answer_is_not_sorted_first(tmp_path: Path, query: str) -> None:
    """The first row comes at once, whatever the length."""
    steps, _ = await _ask(tmp_path, query)
    assert "TEMP B-TREE" not in " | ".join(steps)
