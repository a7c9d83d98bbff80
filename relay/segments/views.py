"""The published views, read as another program reads them: from outside relay's process.

One reading is one snapshot: all views at one instant. It takes no part in relay's own
connections and only ever reads.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from relay.errors import StoreError
from relay.segments.sql import SQL


class SegmentRow(NamedTuple):
    """A row of the view `segments`."""

    cohort_id: str
    name: str
    state: str
    cohort_size: int
    matched_users: int
    subscribed_count: int
    revision: int


class ChangeRow(NamedTuple):
    """A row of the view `segment_changes`; `change` is `entered` or `left`."""

    seq: int
    cohort_id: str
    external_id: str
    change: str


class RunRow(NamedTuple):
    """A row of the view `cohort_runs`."""

    run_id: int
    cohort_id: str
    source: str
    state: str
    reason: str | None


class Views(NamedTuple):
    """What one reading of an app's views saw.

    Attributes:
        segments: By cohort.
        members: External ids, by cohort.
        changes: Those after the last known one, in the order of `seq`.
        runs: All, oldest first.
    """

    segments: Mapping[str, SegmentRow]
    members: Mapping[str, frozenset[str]]
    changes: list[ChangeRow]
    runs: list[RunRow]


def read_views(path: Path, app: str, *, after: int = 0) -> Views:
    """Return what the views show of an app. Blocks while it reads.

    Args:
        path: The segment database.
        app: The app's name.
        after: The `seq` of the last change that is known already.

    Raises:
        StoreError: If the views cannot be read.
    """
    uri = f"{path.as_uri()}?mode=ro"  # a missing file is an error and is not created
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as raw:
            raw.execute("BEGIN")  # else each query would see a snapshot of its own
            members: dict[str, set[str]] = {}
            for cohort_id, external_id in raw.execute(SQL["published_members"], {"app": app}):
                members.setdefault(cohort_id, set()).add(external_id)
            segments = raw.execute(SQL["published_segments"], {"app": app})
            changes = raw.execute(SQL["published_changes"], {"app": app, "after": after})
            runs = raw.execute(SQL["published_runs"], {"app": app})
            return Views(
                {row[0]: SegmentRow(*row) for row in segments},
                {cohort_id: frozenset(ids) for cohort_id, ids in members.items()},
                [ChangeRow(*row) for row in changes],
                [RunRow(*row) for row in runs],
            )
    except sqlite3.Error as error:
        raise StoreError(f"the segment views cannot be read: {error}") from error
