"""One cohort, from Amplitude's export to a revision of its segment.

    ask for the export -> wait for it -> read its file -> sort -> stage -> bring into force

Each step is on disk before the next begins: a restart goes on with the export it had asked for.
Whatever goes wrong ends the run with a reason and leaves the segment as it was.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import structlog

from relay.amplitude.cohort_file import CohortFile
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
from relay.segments.cohort_row import Comparison
from relay.segments.cohorts import ListedCohort
from relay.segments.download_log import DownloadLog, LastPoll, OpenRun
from relay.segments.erasure import Forgotten
from relay.segments.guard import GuardPolicy, check_size
from relay.segments.runs import Export, Outcome, RunState
from relay.segments.sorting import Piece, SortedIds, open_sorting, sorting_path
from relay.segments.staging import RANGE_IDS, Staging
from relay.segments.watermark import Watermark

log = structlog.get_logger(__name__)

EXPORT_LIFE_MS = 6 * 86_400_000
"""How long a finished export is asked for again.

Source: Amplitude, Behavioral Cohorts API (2026): the link of a file is valid for 7 days.
"""

MAX_FAILURES = 5
"""Runs that may fail with one export before another one is paid for."""


class CohortSource(Protocol):
    """Where cohorts come from (`relay.amplitude.cohorts_api.CohortsApi`)."""

    async def request_export(self, cohort_id: str) -> str:
        """Ask for an export; return its name."""

    async def is_export_ready(self, request_id: str) -> bool:
        """Tell whether an export is complete."""

    def open_file(self, request_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the file of a complete export."""


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """How an export is waited for, and what of it is believed.

    Attributes:
        poll_s: How often a running export is asked for.
        timeout_s: The longest a run may take from its export's request to its file's end.
        guard: Which removals are held.
        scratch: A folder for sorting.
        check_room: Raises `StoreFull` while the disk is to be left to the events.
    """

    poll_s: float
    timeout_s: float
    guard: GuardPolicy
    scratch: Path
    check_room: Callable[[], None]


class Download(NamedTuple):
    """A run in progress.

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
        polls: DownloadLog,
        forgotten: Forgotten,
        policy: DownloadPolicy,
        clock: Clock,
    ) -> None:
        self._app = app
        self._source = source
        self._polls = polls
        self._forgotten = forgotten
        self.policy = policy
        self._clock = clock

    async def reusable_export(self, cohort: ListedCohort) -> str | None:
        """Return the export a failed run had of the listed computation, if its file can be had.

        Raises:
            UpstreamError: If Amplitude does not tell; another export would be paid for in vain.
        """
        last = await self._polls.last(cohort.no)
        if last is None or not _serves(last, cohort.listed, self._clock.now_ms()):
            return None
        return last.request_id if await self._is_complete(last) else None

    async def _is_complete(self, last: LastPoll) -> bool:
        """Tell whether an export is complete, perhaps since its run failed."""
        if last.is_complete or last.request_id is None:
            return last.is_complete
        try:
            return await self._source.is_export_ready(last.request_id)
        except UpstreamUnknown:
            return False

    async def begin(self, cohort: ListedCohort, reused: str | None) -> Download:
        """Write down a run of a cohort; unless it reuses an export, a download is spent on it.

        Raises:
            StoreFull: If there is no room; nothing is asked for.
        """
        self.policy.check_room()
        now_ms = self._clock.now_ms()
        export = Export(reused, is_complete=True) if reused else Export(requested_at=now_ms)
        run = await self._polls.begin(cohort.no, cohort.listed, export, now_ms)
        return Download(run, cohort.no, cohort.cohort_id, reused, bool(reused))

    async def resume(self, run: OpenRun, cohort_id: str) -> Download:
        """Take over a run that a former process left; what it had staged begins anew."""
        await self._polls.restart(run.run_id)
        return Download(run.run_id, run.cohort, cohort_id, run.request_id, run.is_complete)

    async def write_off(self, under_way: Collection[int]) -> None:
        """End the runs that nobody is at: the disk was too full to write down that they failed."""
        reason = "the disk was too full to write down how it ended"
        for run in await self._polls.open_runs(self._app):
            if run.cohort not in under_way:
                with suppress(StoreFull):  # it still is; the next round tries again
                    await self._fail(run.run_id, reason)

    async def carry_out(self, download: Download, *, is_resumed: bool = False) -> Outcome:
        """Bring a run to its end; return how it ended.

        Raises:
            UpstreamError: If Amplitude refuses or cannot serve; the run has failed.
            StoreError: If the disk is full, and the run has failed, or is broken.
        """
        if is_resumed and download.request_id is None:
            reason = "relay ended before it learned the name of the export"
            return await self._fail(download.run, reason)
        try:
            outcome = await self._take_over(download)
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

    async def _take_over(self, download: Download) -> Outcome:
        path = sorting_path(self.policy.scratch, f"run-{download.run}")
        async with open_sorting(path) as scratch:
            ids = SortedIds(scratch)
            with anyio.fail_after(self.policy.timeout_s):
                file = await self._read_file(ids, await self._obtain(download))
            members = await ids.sort()
            listed = await self._polls.listed_size(download.cohort)
            check_size(rows=members + file.empty_ids, listed=listed)
            staging = self._polls.stage(download.cohort, download.run)
            compared = await self._stage(staging, ids)
            await staging.note_members(members, file.empty_ids)
        at = self._clock.now_ms()
        return await self._polls.publish(staging, compared, self.policy.guard, at)

    async def _obtain(self, download: Download) -> str:
        """Return the name of the run's export once it is complete."""
        request_id = download.request_id
        if request_id is None:
            try:
                request_id = await self._source.request_export(download.cohort_id)
            except (UpstreamRefused, UpstreamUnknown, UpstreamBusy):
                await self._polls.uncount(download.run)  # anything else may have begun one
                raise
            await self._polls.note_export(download.run, request_id)
        if not download.is_complete:
            await self._await_export(request_id)
            await self._polls.note_complete(download.run)
        return request_id

    async def _await_export(self, request_id: str) -> None:
        """Return once an export is complete; the caller sets the deadline."""
        while True:
            wait_s = self.policy.poll_s
            try:
                if await self._source.is_export_ready(request_id):
                    return
            except UpstreamUnavailable as error:  # the export goes on without us
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

    async def _stage(self, staging: Staging, ids: SortedIds) -> Comparison:
        """Stage the sorted ids; return what they were compared with."""
        compared = await staging.begin()
        async for piece in ids.pieces(RANGE_IDS):
            self.policy.check_room()
            await staging.add(self._without_forgotten(piece))
        return compared

    def _without_forgotten(self, piece: Piece) -> Piece:
        """Leave out who is forgotten, though the file counts them."""
        return piece._replace(rows=self._forgotten.without_json(self._app, piece.rows))

    async def _fail(self, run: int, reason: str) -> Outcome:
        await self._polls.fail(run, reason, self._clock.now_ms())
        log.warning("cohort.failed", run=run, reason=reason)
        return Outcome(RunState.FAILED, reason=reason)


def _serves(last: LastPoll, listed: Watermark, now_ms: int) -> bool:
    """Return whether a failed run's export can be used once more."""
    return (
        last.state == RunState.FAILED
        and (last.computed_at, last.mod_at) == (listed.last_computed_at, listed.last_mod_at)
        and last.failures < MAX_FAILURES
        and now_ms - (last.requested_at or 0) < EXPORT_LIFE_MS
    )


def _counts(outcome: Outcome) -> dict[str, object]:
    return {"state": outcome.state.value, "added": outcome.added, "removed": outcome.removed}
