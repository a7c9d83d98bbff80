"""Runs: attempts to bring a segment up to date, and how they ended."""

import sqlite3
from enum import StrEnum
from typing import NamedTuple

from relay.segments.sql import SQL
from relay.segments.watermark import Watermark


class RunSource(StrEnum):
    """What started a run."""

    POLL = "poll"
    WEBHOOK = "webhook"
    DIRECTORY = "directory"
    ROLLBACK = "rollback"


class RunState(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    APPLIED = "applied"
    UNCHANGED = "unchanged"
    HELD = "held"
    REJECTED = "rejected"
    FAILED = "failed"


class Export(NamedTuple):
    """Amplitude's export, as far as a run knows it.

    Attributes:
        request_id: Amplitude's id of it, None until it is known.
        requested_at: When this run asked for it, None if an earlier run did.
        is_complete: Whether its file is available.
    """

    request_id: str | None = None
    requested_at: int | None = None
    is_complete: bool = False


class RunRow(NamedTuple):
    """A run as a transaction sees it; columns of the table of the same names."""

    run_id: int
    cohort: int
    source: str
    state: str
    empty_ids: int
    computed_at: int | None
    mod_at: int | None
    listed_size: int | None


class Outcome(NamedTuple):
    """How a run ended."""

    state: RunState
    added: int = 0
    removed: int = 0
    unknown_users: int = 0
    reason: str | None = None


def begin_run(  # noqa: PLR0913  # a row of the table
    raw: sqlite3.Connection,
    cohort: int,
    source: RunSource,
    at: int,
    *,
    state: RunState = RunState.RUNNING,
    computed_at: int | None = None,
    listing: Watermark | None = None,
    export: Export = Export(),  # noqa: B008  # a tuple
) -> int:
    """Store a new run and return its id."""
    row = {
        "cohort": cohort,
        "source": source,
        "state": state,
        "at": at,
        "computed_at": listing.last_computed_at if listing else computed_at,
        "mod_at": listing.last_mod_at if listing else None,
        "listed_size": listing.size if listing else None,
        **export._asdict(),
    }
    (run_id,) = raw.execute(SQL["begin_run"], row).fetchone()
    return int(run_id)


def load_run(raw: sqlite3.Connection, run_id: int) -> RunRow | None:
    """Return a run as it is in this transaction, None if the id is unknown."""
    row = raw.execute(SQL["run"], {"run": run_id}).fetchone()
    return RunRow(*row) if row else None


def finish_run(raw: sqlite3.Connection, run_id: int, outcome: Outcome, at: int) -> None:
    """Store how a run ended; the counts of an applied one that goes on add up."""
    raw.execute(SQL["finish_run"], {"run": run_id, "at": at, **outcome._asdict()})
    if outcome.state is RunState.APPLIED:
        raw.execute(SQL["set_revision"], {"run": run_id})


def supersede_held(raw: sqlite3.Connection, run: RunRow, at: int) -> None:
    """Reject the other held runs of a run's cohort, except those of a later computation."""
    held = raw.execute(SQL["held_runs"], {"cohort": run.cohort}).fetchall()
    for run_id, computed_at in held:
        if run_id == run.run_id or (computed_at or 0) > (run.computed_at or 0):
            continue
        reason = f"overtaken by run {run.run_id}"
        raw.execute(SQL["reject_run"], {"run": run_id, "at": at, "reason": reason})
        raw.execute(SQL["discard_list"], {"list": run_id})
