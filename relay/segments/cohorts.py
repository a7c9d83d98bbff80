"""The apps and their cohorts: what Amplitude lists, and what of it is applied."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import orjson

from relay.amplitude.cohort_list import Cohort
from relay.database.database import Database
from relay.segments.cohort_row import Figures, load_cohort, read_figures
from relay.segments.runs import Outcome, RunSource, RunState, begin_run, finish_run
from relay.segments.segment_update import create_segment, may_become_segment
from relay.segments.sql import SQL
from relay.segments.watermark import Watermark, needs_refresh

MONTH_MS = 30 * 86_400_000


class AppRules(NamedTuple):
    """An app's settings for its segments.

    Attributes:
        takes_all: Whether members need not be known to OneSignal.
        segment_limit: Segments it may have, None for any number.
    """

    takes_all: bool
    segment_limit: int | None


class ListedCohort(NamedTuple):
    """A cohort that Amplitude lists or listed, and what of it is applied.

    Attributes:
        no: Its number.
        cohort_id: Amplitude's id.
        name: Amplitude's name.
        standing: `active`, `stale` or `archived`.
        listed: The computation Amplitude lists.
        stale_since: Since when that differs from what is applied, None if it does not; UTC epoch
            milliseconds.
        applied: The computation that is applied.
        rejected: The last computation that was rejected.
        held: The computation that waits for a decision.
        changes: How often its listing changed in the last 30 days.
        last_requested_at: When its last export was asked for, UTC epoch milliseconds.
    """

    no: int
    cohort_id: str
    name: str
    standing: str
    listed: Watermark
    stale_since: int | None
    applied: Watermark | None
    rejected: Watermark | None
    held: Watermark | None
    changes: int
    last_requested_at: int | None

    @property
    def has_changed(self) -> bool:
        """Whether Amplitude lists a computation that is neither applied, rejected nor held."""
        return needs_refresh(
            self.listed, applied=self.applied, rejected=self.rejected, held=self.held
        )


class Cohorts:
    """Numbers of apps, their rules, and the cohorts that Amplitude lists."""

    def __init__(self, database: Database, numbers: dict[str, int]) -> None:
        self._database = database
        self._numbers = numbers

    @classmethod
    async def load(cls, database: Database, apps: Mapping[str, AppRules], now_ms: int) -> "Cohorts":
        """Number the apps that are new, and apply the settings of all."""
        cohorts = cls(database, {})
        await cohorts.configure(apps, now_ms)
        return cohorts

    async def configure(self, apps: Mapping[str, AppRules], now_ms: int) -> None:
        """Apply changed settings of these apps to their segments.

        Raises:
            StoreFull: If there is no room for it now; nothing has changed.
            StoreFailed: If the disk failed.
        """

        def configure(raw: sqlite3.Connection) -> dict[str, int]:
            return {app: _set_app(app, rules, now_ms, raw) for app, rules in apps.items()}

        # One transaction: a refused reload must not leave some apps on the new rules.
        self._numbers |= await self._database.write(configure)

    @property
    def apps(self) -> Collection[str]:
        """The configured apps."""
        return self._numbers.keys()

    def number(self, app: str) -> int:
        """Return the number that stands for an app in the tables.

        Raises:
            KeyError: If it is not configured.
        """
        return self._numbers[app]

    async def set_listing(self, app: int, cohorts: Sequence[Cohort], now_ms: int) -> None:
        """Store Amplitude's list: names and computations; cohorts archived, or missing now."""
        await self._database.write(partial(_set_listing, app, cohorts, now_ms))

    async def listed(self, app: int, now_ms: int) -> list[ListedCohort]:
        """Return the cohorts that Amplitude's list has or had."""
        return await self._database.read(partial(_listed, app, now_ms))


def _set_app(app: str, rules: AppRules, now_ms: int, raw: sqlite3.Connection) -> int:
    row = {"app": app, **rules._asdict()}
    raw.execute(SQL["add_app"], row)
    no, takes_all = raw.execute(SQL["app_no"], row).fetchone()
    raw.execute(SQL["set_app"], {**row, "app": no, "at": now_ms})
    if bool(takes_all) != rules.takes_all:
        for (cohort,) in raw.execute(SQL["cohorts_of_app"], {"app": no}).fetchall():
            _recount(raw, cohort, now_ms)
    for (cohort,) in raw.execute(SQL["missing_segments"], {"app": no}).fetchall():
        _create_allowed_segment(raw, cohort, now_ms)
    return int(no)


def _recount(raw: sqlite3.Connection, no: int, at: int) -> None:
    """Count a segment again under the other rule of membership, and log the difference."""
    cohort = load_cohort(raw, no)
    if not cohort.list:
        return
    before = Figures(*raw.execute(SQL["figures"], {"cohort": no}).fetchone())
    scope = {"list": cohort.list, **cohort.membership}
    now = read_figures(raw.execute(SQL["figures_of_list"], scope).fetchone()[1:])
    raw.execute(SQL["move_figures"], {"cohort": no, **now.minus(before)._asdict()})
    if not cohort.is_segment or now.matched_users == before.matched_users:
        return
    run = begin_run(raw, no, RunSource.DIRECTORY, at, state=RunState.APPLIED)
    logged = {"cohort": no, "run": run, "at": at, "change": cohort.takes_all, **scope}
    raw.execute(SQL["log_unknown"], logged)
    raw.execute(SQL["next_revision"], {"cohort": no, "at": at})
    step = now.matched_users - before.matched_users
    finish_run(raw, run, Outcome(RunState.APPLIED, max(step, 0), max(-step, 0)), at)


def _create_allowed_segment(raw: sqlite3.Connection, no: int, at: int) -> None:
    """Create a segment that the limit did not allow before, if it does now."""
    cohort = load_cohort(raw, no)
    if may_become_segment(raw, cohort, cohort.matched_users):
        run = begin_run(raw, no, RunSource.DIRECTORY, at, state=RunState.APPLIED)
        effect = create_segment(raw, cohort, run, at)
        finish_run(raw, run, Outcome(RunState.APPLIED, *effect), at)


def _set_listing(app: int, cohorts: Sequence[Cohort], now_ms: int, raw: sqlite3.Connection) -> None:
    for cohort in cohorts:
        named = {"app": app, "cohort_id": cohort.id, "name": cohort.name}
        raw.execute(SQL["add_cohort"], named)
        (no,) = raw.execute(SQL["cohort_no"], named).fetchone()
        listing = (cohort.last_computed_at, cohort.last_mod_at, cohort.size)
        if raw.execute(SQL["listing"], {"cohort": no}).fetchone() != listing:
            raw.execute(SQL["add_sighting"], {"cohort": no, "at": now_ms})
        raw.execute(
            SQL["set_listing"],
            {
                "cohort": no,
                "name": cohort.name,
                "standing": "archived" if cohort.is_archived else "active",
                "computed_at": cohort.last_computed_at,
                "mod_at": cohort.last_mod_at,
                "size": cohort.size,
                "at": now_ms,
            },
        )
    listed = orjson.dumps([cohort.id for cohort in cohorts]).decode()
    raw.execute(SQL["set_missing"], {"app": app, "listed": listed})


def _listed(app: int, now_ms: int, raw: sqlite3.Connection) -> list[ListedCohort]:
    rows = raw.execute(SQL["listed_cohorts"], {"app": app, "since": now_ms - MONTH_MS})
    return [
        ListedCohort(
            no,
            cohort_id,
            name,
            standing,
            Watermark(*rest[0:3]),
            rest[3],
            _watermark(rest[4:7]),
            _watermark(rest[7:10]),
            _watermark(raw.execute(SQL["held_watermark"], {"cohort": no}).fetchone()),
            *rest[10:],
        )
        for no, cohort_id, name, standing, *rest in rows.fetchall()
    ]


def _watermark(row: Sequence[int | None] | None) -> Watermark | None:
    if row is None or row[0] is None or row[1] is None or row[2] is None:
        return None
    return Watermark(row[0], row[1], row[2])
