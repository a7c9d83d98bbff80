"""One cohort, from Amplitude's export to a revision of its segment.

    ask for the export -> wait for it -> read its file -> sort -> stage -> bring into force

Each step is on disk before the next begins: a restart goes on with the export it had asked for.
Any failure ends the run with a reason and leaves the segment as it was.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import structlog

from relay.amplitude.cohort_file import CohortFile
from relay.amplitude.cohort_list import Cohort, Usage
from relay.clock import Clock
from relay.errors import (
    FileRejected,
    StoreFull,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnknown,
)
from relay.segments.cohorts import ListedCohort
from relay.segments.download_log import LastDownload, OpenRun
from relay.segments.guard import GuardPolicy, check_size
from relay.segments.runs import Export, Outcome, RunState
from relay.segments.sorting import SortedIds, open_sorting, sorting_path
from relay.segments.staging import RANGE_IDS, StagedList
from relay.segments.store import Segments
from relay.segments.watermark import Watermark

log = structlog.get_logger(__name__)

EXPORT_LIFE_MS = 6 * 86_400_000
"""How long a finished export can be reused.

Source: Amplitude, Behavioral Cohorts API (2026): the link of a file is valid for 7 days.
"""

MAX_FAILURES = 5
"""Runs that may fail with one export before another one is paid for."""


class CohortSource(Protocol):
    """Where cohorts come from (`relay.amplitude.cohorts_api.CohortsApi`)."""

    async def list_cohorts(self) -> Sequence[Cohort]:
        """Return every cohort of the project."""

    async def read_usage(self) -> Usage | None:
        """Return how many downloads the month had, None if Amplitude does not say."""

    async def request_export(self, cohort_id: str) -> str:
        """Ask for an export; return its id."""

    async def is_export_ready(self, request_id: str) -> bool:
        """Return whether an export is complete."""

    def open_file(self, request_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the file of a complete export."""


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """How an export is waited for, and which removals are held.

    Attributes:
        poll_s: Between two looks at a running export.
        timeout_s: From an export's request to its file's end.
        guard: Which removals are held.
        scratch: A folder for sorting.
        check_room: Raises `StoreFull` while free disk space is reserved for events.
    """

    poll_s: float
    timeout_s: float
    guard: GuardPolicy
    scratch: Path
    check_room: Callable[[], None]


class Download(NamedTuple):
    """A running download.

    Attributes:
        run: Its id.
        cohort: The cohort's number.
        cohort_id: Amplitude's id of it.
        request_id: The export, None until it is asked for.
        is_complete: Whether the export is complete.
    """

    run: int
    cohort: int
    cohort_id: str
    request_id: str | None
    is_complete: bool


class Downloads:
    """Downloads cohorts of one app.

    Attributes:
        policy: How exports are waited for; it may be replaced at any time.
    """

    def __init__(
        self,
        app: int,
        source: CohortSource,
        segments: Segments,
        policy: DownloadPolicy,
        clock: Clock,
    ) -> None:
        self._app = app
        self._source = source
        self._segments = segments
        self._log = segments.downloads
        self.policy = policy
        self._clock = clock

    async def reusable_export(self, cohort: ListedCohort) -> str | None:
        """Return a failed run's export of the listed computation, if its file is available.

        Raises:
            UpstreamError: If Amplitude does not say; another export would be a wasted download.
        """
        last = await self._log.last(cohort.no)
        if last is None or not _is_reusable(last, cohort.listed, self._clock.now_ms()):
            return None
        return last.request_id if await self._is_complete(last) else None

    async def _is_complete(self, last: LastDownload) -> bool:
        """Return whether an export is complete, perhaps only since its run failed."""
        if last.is_complete or last.request_id is None:
            return last.is_complete
        try:
            return await self._source.is_export_ready(last.request_id)
        except UpstreamUnknown:
            return False

    async def begin(self, cohort: ListedCohort, reused: str | None) -> Download:
        """Log a run of a cohort; unless it reuses an export, that spends a download.

        Raises:
            StoreFull: If there is no room; no export is asked for.
        """
        self.policy.check_room()
        now_ms = self._clock.now_ms()
        export = Export(reused, is_complete=True) if reused else Export(requested_at=now_ms)
        run = await self._log.begin(cohort.no, cohort.listed, export, now_ms)
        return Download(run, cohort.no, cohort.cohort_id, reused, bool(reused))

    async def resume(self, run: OpenRun, cohort_id: str) -> Download:
        """Take over a run that an earlier process left; its list is staged again."""
        await self._log.restart(run.run_id)
        return Download(run.run_id, run.cohort, cohort_id, run.request_id, run.is_complete)

    async def fail_orphans(self, active: Collection[int]) -> None:
        """Fail the runs that no task carries: a full disk kept their failure from being logged."""
        reason = "the disk was too full to write down how it ended"
        for run in await self._log.open_runs(self._app):
            if run.cohort not in active:
                with suppress(StoreFull):  # it still is full; the next round tries again
                    await self._fail(run.run_id, reason)

    async def carry_out(self, download: Download, *, is_resumed: bool = False) -> Outcome:
        """Carry a run to its end; return how it ended.

        Raises:
            UpstreamError: If Amplitude refuses or cannot serve; the run has failed.
            StoreError: If the disk is full (the run has failed), or broken.
        """
        # The export may have begun, but its id is lost: only the next poll may pay for another.
        if is_resumed and download.request_id is None:
            reason = "relay ended before it learned the name of the export"
            return await self._fail(download.run, reason)
        try:
            outcome = await self._publish_export(download)
        except FileRejected as error:
            return await self._fail(download.run, f"{error.reason}: {error.detail}")
        except UpstreamUnknown:
            return await self._fail(download.run, "Amplitude knows no such cohort or export")
        except (UpstreamError, StoreFull) as error:
            await self._fail(download.run, str(error))
            raise
        except TimeoutError:
            reason = f"the export was not there within {self.policy.timeout_s:g} s"
            return await self._fail(download.run, reason)
        log.info("cohort.published", run=download.run, **_counts(outcome))
        return outcome

    async def _publish_export(self, download: Download) -> Outcome:
        path = sorting_path(self.policy.scratch, f"run-{download.run}")
        async with open_sorting(path) as scratch:
            ids = SortedIds(scratch)
            with anyio.fail_after(self.policy.timeout_s):
                file = await self._read_file(ids, await self._completed_export(download))
            members = await ids.sort()
            # The size listed by now: the list may have been read again while the export ran.
            listed = await self._log.listed_size(download.cohort)
            check_size(rows=members + file.empty_ids, listed=listed)
            staged = self._segments.stage(download.cohort, download.run)
            await self._stage(staged, ids)
            await staged.set_counts(members, file.empty_ids)
        return await staged.publish(self.policy.guard, self._clock.now_ms())

    async def _completed_export(self, download: Download) -> str:
        """Return the id of the run's export once it is complete."""
        request_id = download.request_id
        if request_id is None:
            try:
                request_id = await self._source.request_export(download.cohort_id)
            except (UpstreamRefused, UpstreamUnknown, UpstreamBusy):
                # Any other failure may have begun an export: it stays counted.
                await self._log.uncount(download.run)
                raise
            await self._log.set_export(download.run, request_id)
        if not download.is_complete:
            await self._await_export(request_id)
            await self._log.set_complete(download.run)
        return request_id

    async def _await_export(self, request_id: str) -> None:
        """Return once an export is complete; the caller sets the deadline."""
        while True:
            wait_s = self.policy.poll_s
            try:
                if await self._source.is_export_ready(request_id):
                    return
            except UpstreamUnavailable as error:  # the export goes on all the same
                wait_s = max(wait_s, error.retry_after_s or 0)
            await anyio.sleep(wait_s)

    async def _read_file(self, ids: SortedIds, request_id: str) -> CohortFile:
        file = CohortFile()
        async with self._source.open_file(request_id) as chunks:
            async for chunk in chunks:
                self.policy.check_room()
                for some in file.feed(chunk):
                    await ids.add(some)
        await ids.add(file.finish())
        return file

    async def _stage(self, staged: StagedList, ids: SortedIds) -> None:
        await staged.begin()
        async for piece in ids.pieces(RANGE_IDS):
            self.policy.check_room()
            # Forgotten users are left out piece by piece: one may be forgotten while this runs.
            kept = self._segments.forgotten.without_json(self._app, piece.rows)
            await staged.add(piece._replace(rows=kept))

    async def _fail(self, run: int, reason: str) -> Outcome:
        await self._log.fail(run, reason, self._clock.now_ms())
        log.warning("cohort.failed", run=run, reason=reason)
        return Outcome(RunState.FAILED, reason=reason)


def _is_reusable(last: LastDownload, listed: Watermark, now_ms: int) -> bool:
    """Return whether a failed run's export may serve another run."""
    return (
        last.state == RunState.FAILED
        and (last.computed_at, last.mod_at) == (listed.last_computed_at, listed.last_mod_at)
        and last.failures < MAX_FAILURES
        and now_ms - (last.requested_at or 0) < EXPORT_LIFE_MS
    )


def _counts(outcome: Outcome) -> dict[str, object]:
    return {"state": outcome.state.value, "added": outcome.added, "removed": outcome.removed}
