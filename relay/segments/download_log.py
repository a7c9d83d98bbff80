"""The book of downloads: which run asked Amplitude for which export, and how many in a month.

An export is written down before it is asked for, so that none goes uncounted; its name is
written down as soon as it is known, so that a restart goes on with it.
"""

import sqlite3
from functools import partial
from typing import NamedTuple

from relay.database.database import Database
from relay.segments.cohort_row import Comparison
from relay.segments.guard import GuardPolicy
from relay.segments.publish import publish
from relay.segments.runs import Export, Outcome, RunSource, begin_run
from relay.segments.sql import SQL
from relay.segments.staging import Staging
from relay.segments.watermark import Watermark


class OpenRun(NamedTuple):
    """A run a former process left unfinished."""

    run_id: int
    cohort: int
    request_id: str | None
    is_complete: bool
    started_at: int


class LastPoll(NamedTuple):
    """The newest run of a cohort that was about a download.

    Attributes:
        run_id: Its id.
        state: How far it came.
        computed_at: When Amplitude computed what it was about.
        mod_at: When the definition of that was changed.
        request_id: The export, None if it never got a name.
        is_complete: Whether Amplitude had finished the export.
        requested_at: When the export was asked for, by this run or an earlier one.
        failures: Runs that failed with this export.
    """

    run_id: int
    state: str
    computed_at: int | None
    mod_at: int | None
    request_id: str | None
    is_complete: bool
    requested_at: int | None
    failures: int


class DownloadLog:
    """Writes down what happens to downloads, and brings their lists into force."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, cohort: int, listing: Watermark, export: Export, at: int) -> int:
        """Write down a run; one with `export.requested_at` counts as a download."""
        return await self._database.write(
            lambda raw: begin_run(raw, cohort, RunSource.POLL, at, listing=listing, export=export)
        )

    async def note_export(self, run: int, request_id: str) -> None:
        """Remember Amplitude's name of the export a run waits for."""
        await self._database.execute(SQL["note_export"], {"run": run, "request_id": request_id})

    async def note_complete(self, run: int) -> None:
        """Remember that the file of a run's export can be had, now and for some days."""
        await self._database.execute(SQL["note_complete"], {"run": run})

    async def uncount(self, run: int) -> None:
        """Remember that Amplitude refused to begin the export a run asked for."""
        await self._database.execute(SQL["uncount"], {"run": run})

    async def fail(self, run: int, reason: str, at: int) -> None:
        """Write down why a run failed; the segment stays as it is."""

        def change(raw: sqlite3.Connection) -> None:
            if raw.execute(SQL["fail_run"], {"run": run, "at": at, "reason": reason}).rowcount:
                raw.execute(SQL["discard_list"], {"list": run})

        await self._database.write(change)

    async def open_runs(self, app: int) -> list[OpenRun]:
        """Return the runs of an app that are under way, oldest first."""
        rows = await self._database.fetch(SQL["open_runs"], {"app": app})
        return [
            OpenRun(run, cohort, request_id, bool(is_complete), started_at)
            for run, cohort, request_id, is_complete, started_at in rows
        ]

    async def last(self, cohort: int) -> LastPoll | None:
        """Return the newest run of a cohort that was about a download, None before the first."""
        return await self._database.read(partial(_last, cohort))

    async def requests_since(self, app: int, since: int) -> list[int]:
        """Return when an app asked for exports since an instant, oldest first."""
        rows = await self._database.fetch(SQL["requests_since"], {"app": app, "since": since})
        return [at for (at,) in rows]

    async def listed_size(self, cohort: int) -> int:
        """Return how many members Amplitude lists for a cohort by now."""
        rows = await self._database.fetch(SQL["listing"], {"cohort": cohort})
        return int(rows[0][2] or 0) if rows else 0

    async def restart(self, run: int) -> None:
        """Drop what a former process staged for a run that begins anew."""

        def change(raw: sqlite3.Connection) -> None:
            raw.execute(SQL["drop_changes"], {"run": run})
            raw.execute(SQL["drop_list"], {"list": run})

        await self._database.write(change)

    def stage(self, cohort: int, run: int) -> Staging:
        """Return where the list of a run takes shape."""
        return Staging(self._database, cohort, run)

    async def publish(
        self, staging: Staging, compared: Comparison, guard: GuardPolicy, at: int
    ) -> Outcome:
        """Bring a staged list into force, or hold it.

        A list that comes into force meanwhile asks for another comparison.
        """
        while True:
            step = partial(_publish, staging.run, compared, guard, at)
            outcome = await self._database.write(step)
            if outcome is not None:
                return outcome
            compared = await staging.compare()


def _publish(
    run: int, compared: Comparison, guard: GuardPolicy, at: int, raw: sqlite3.Connection
) -> Outcome | None:
    return publish(raw, run, compared, guard, at)


def _last(cohort: int, raw: sqlite3.Connection) -> LastPoll | None:
    row = raw.execute(SQL["last_run"], {"cohort": cohort}).fetchone()
    if row is None:
        return None
    run_id, state, computed_at, mod_at, request_id, is_complete, requested_at = row
    export = {"cohort": cohort, "request_id": request_id}
    (failures,) = raw.execute(SQL["failures_of_export"], export).fetchone()
    return LastPoll(
        run_id, state, computed_at, mod_at, request_id, bool(is_complete), requested_at, failures
    )
