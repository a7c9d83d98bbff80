"""The log of downloads: which run asked Amplitude for which export, and how many in a month.

A run is logged before its export is asked for, so that no download goes uncounted; the export's
id is logged as soon as it is known, so that a restart goes on with it.
"""

import sqlite3
from functools import partial
from typing import NamedTuple

from relay.database.database import Database
from relay.segments.runs import Export, RunSource, begin_run
from relay.segments.sql import SQL
from relay.segments.watermark import Watermark


class OpenRun(NamedTuple):
    """A run that an earlier process left unfinished."""

    run_id: int
    cohort: int
    request_id: str | None
    is_complete: bool
    started_at: int


class LastDownload(NamedTuple):
    """The newest run of a cohort that was a download.

    Attributes:
        run_id: Its id.
        state: How far it came.
        computed_at: When Amplitude computed what it was about.
        mod_at: When the cohort's definition was changed.
        request_id: Amplitude's id of the export, None if it never became known.
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
    """Logs downloads, by run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, cohort: int, listing: Watermark, export: Export, at: int) -> int:
        """Log a new run and return its id; one with `export.requested_at` counts as a download."""
        return await self._database.write(
            lambda raw: begin_run(raw, cohort, RunSource.POLL, at, listing=listing, export=export)
        )

    async def set_export(self, run: int, request_id: str) -> None:
        """Log Amplitude's id of the export a run waits for."""
        await self._database.execute(SQL["set_export"], {"run": run, "request_id": request_id})

    async def set_complete(self, run: int) -> None:
        """Log that the file of a run's export is available, now and for some days."""
        await self._database.execute(SQL["set_complete"], {"run": run})

    async def uncount(self, run: int) -> None:
        """Log that Amplitude refused to begin the export a run asked for: no download is spent."""
        await self._database.execute(SQL["uncount"], {"run": run})

    async def fail(self, run: int, reason: str, at: int) -> None:
        """End a run as failed; its staged list is dropped, the segment stays as it is."""

        def change(raw: sqlite3.Connection) -> None:
            if raw.execute(SQL["fail_run"], {"run": run, "at": at, "reason": reason}).rowcount:
                raw.execute(SQL["discard_list"], {"list": run})

        await self._database.write(change)

    async def restart(self, run: int) -> None:
        """Drop the list that an earlier process staged for an open run, to stage it again."""

        def change(raw: sqlite3.Connection) -> None:
            raw.execute(SQL["drop_delta"], {"run": run})
            raw.execute(SQL["drop_list"], {"list": run})

        await self._database.write(change)

    async def open_runs(self, app: int) -> list[OpenRun]:
        """Return the running downloads of an app, oldest first."""
        rows = await self._database.fetch(SQL["open_runs"], {"app": app})
        return [
            OpenRun(run, cohort, request_id, bool(is_complete), started_at)
            for run, cohort, request_id, is_complete, started_at in rows
        ]

    async def last(self, cohort: int) -> LastDownload | None:
        """Return the newest download of a cohort, None before the first."""
        return await self._database.read(partial(_last, cohort))

    async def requests_since(self, app: int, since: int) -> list[int]:
        """Return when an app asked for exports since an instant, oldest first."""
        rows = await self._database.fetch(SQL["requests_since"], {"app": app, "since": since})
        return [at for (at,) in rows]

    async def listed_size(self, cohort: int) -> int:
        """Return how many members Amplitude lists for a cohort by now."""
        rows = await self._database.fetch(SQL["listing"], {"cohort": cohort})
        return int(rows[0][2] or 0) if rows else 0


def _last(cohort: int, raw: sqlite3.Connection) -> LastDownload | None:
    row = raw.execute(SQL["last_download"], {"cohort": cohort}).fetchone()
    if row is None:
        return None
    run_id, state, computed_at, mod_at, request_id, is_complete, requested_at = row
    export = {"cohort": cohort, "request_id": request_id}
    (failures,) = raw.execute(SQL["failures_of_export"], export).fetchone()
    return LastDownload(
        run_id, state, computed_at, mod_at, request_id, bool(is_complete), requested_at, failures
    )
