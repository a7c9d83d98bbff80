"""The poller of one app: reads Amplitude's list of cohorts, downloads the ones that changed.

Listing is free, downloads are not: `relay.cohorts.budget` says which cohort is due when. Downloads
run beside the loop, a few at once; one that fails never stops another.
"""

from collections.abc import Sequence

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from relay.clock import Clock
from relay.cohorts.budget import BudgetUsage, Candidate, Due, plan
from relay.cohorts.download import CohortSource, Download, DownloadPolicy, Downloads
from relay.cohorts.poll_state import PollPolicy, PollState, PollStatus
from relay.errors import (
    Conflict,
    NotFound,
    StoreFull,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from relay.heartbeat import Heartbeat
from relay.segments.cohorts import ListedCohort
from relay.segments.runs import RunState
from relay.segments.store import Segments

log = structlog.get_logger(__name__)

PARALLEL_DOWNLOADS = 4
"""Source: Amplitude, Behavioral Cohorts API (2026): four downloads in parallel."""

BEAT_S = 5.0
"""The longest time between two signs of life of the loop."""

BUSY_S = 60.0
"""Pause of all exports after a 429 without `Retry-After`."""

LIST_S = 150.0
"""How long Amplitude may take for the list and its count."""


class Poller:
    """The loop of one app.

    Attributes:
        heartbeat: Of its loop.
    """

    def __init__(
        self,
        app: int,
        source: CohortSource,
        segments: Segments,
        policy: PollPolicy,
        downloading: DownloadPolicy,
        clock: Clock,
    ) -> None:
        self._app = app
        self._source = source
        self._segments = segments
        self._policy = policy
        self._clock = clock
        self._downloads = Downloads(app, source, segments, downloading, clock)
        self.heartbeat = Heartbeat(clock)
        self._wakeup = anyio.Event()
        self._active: set[int] = set()  # cohorts with a download running
        self._state = PollState()
        self._budget = BudgetUsage(app, segments.downloads, policy.monthly, clock)
        self._dues: dict[str, Due] = {}
        self._list_error: str | None = None
        self._busy_until_s = 0.0  # Amplitude asked for a pause before the next export
        self._next_list_s = 0.0

    def status(self) -> PollStatus:
        """Return the state of the app's downloads."""
        waiting = min(self._dues.values(), key=lambda due: due.due_at, default=None)
        return PollStatus(
            self._budget.allowance.spent,
            self._budget.allowance.left,
            waiting.due_at if waiting else None,
            self._list_error or self._state.first_error or (waiting.reason if waiting else None),
        )

    def due_of(self, cohort_id: str) -> Due | None:
        """Return when a waiting cohort is due, None if it does not wait."""
        return self._dues.get(cohort_id)

    def configure(self, policy: PollPolicy, downloading: DownloadPolicy) -> None:
        """Replace the policies, and read Amplitude's list again."""
        self._policy = policy
        self._budget.monthly = policy.monthly
        self._downloads.policy = downloading
        self._next_list_s = 0.0
        self._wakeup.set()

    async def request_sync(self, cohort_id: str) -> bool:
        """Download a cohort soon, changed or not; False if that is under way or requested.

        Raises:
            Conflict: If the app's cohorts are not polled.
            NotFound: If Amplitude does not list it.
        """
        if self._policy.off:
            raise Conflict(self._policy.off)
        listed = await self._listed()
        cohort = next((one for one in listed if one.cohort_id == cohort_id), None)
        if cohort is None:
            raise NotFound("Amplitude's list has no cohort of that id")
        if cohort.no in self._active or not self._state.request(cohort_id):
            return False
        self._wakeup.set()
        return True

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Poll until cancelled."""
        await self._budget.count()
        await self._fail_left_behind()
        task_status.started()
        async with anyio.create_task_group() as group:
            await self._resume(group)
            while True:
                await self._wait_while_off()
                await self._poll(group)
                await self._rest()

    async def _fail_left_behind(self) -> None:
        """Fail the runs of an earlier process if polling is off, as nothing would end them."""
        downloads, off = self._segments.downloads, self._policy.off
        for run in await downloads.open_runs(self._app) if off else ():
            await downloads.fail(run.run_id, str(off), self._clock.now_ms())

    async def _wait_while_off(self) -> None:
        while self._policy.off:
            self._dues, self._list_error = {}, None
            self.heartbeat.beat(BEAT_S)
            await anyio.sleep(BEAT_S)
            await self._budget.count()  # the status shows it all the same

    async def _poll(self, group: TaskGroup) -> None:
        """Read the list if it is time, and start every download that is due."""
        if self._clock.monotonic_s() >= self._next_list_s:
            await self._read_list()
            self._state.list_was_read()
            await self._downloads.fail_orphans(self._active)
            await self._repeat_failed(group)
        await self._budget.count()
        # A cohort may also wait to reuse an export; a new one is worth its price only for these.
        waiting = await self._waiting()
        wanted = [one for one in waiting if self._is_requested(one) or one.has_changed]
        await self._start_due(group, wanted)

    async def _repeat_failed(self, group: TaskGroup) -> None:
        """Repeat failed runs whose export is still available; that costs no download."""
        if self._list_error:
            return  # the listed computation may be out of date, and with it the export
        for cohort in await self._waiting():
            self.heartbeat.beat(LIST_S)
            try:
                reused = await self._downloads.reusable_export(cohort)
            except UpstreamError as error:
                self._state.skip(cohort.no, cohort.cohort_id, str(error))
                continue
            if reused and not await self._start(group, cohort, reused):
                # It waits for the next list rather than pay for another export of the same thing.
                self._state.postpone(cohort.no)

    async def _read_list(self) -> None:
        wait_s = self._policy.interval_s
        self.heartbeat.beat(LIST_S)
        try:
            cohorts = await self._source.list_cohorts()
            self._budget.correct(await self._source.read_usage())
            await self._segments.cohorts.set_listing(self._app, cohorts, self._clock.now_ms())
            self._list_error = None
        except UpstreamRefused as error:
            self._list_error = str(error)
            wait_s = self._policy.refused_s
        except UpstreamUnavailable as error:
            self._list_error = f"the cohort list could not be read: {error}"
            wait_s = max(wait_s, error.retry_after_s or 0)
        except (UpstreamError, StoreFull) as error:
            self._list_error = f"the cohort list could not be read: {error}"
        if self._list_error:
            log.warning("cohorts.unlisted", reason=self._list_error)
        self._next_list_s = self._clock.monotonic_s() + wait_s

    async def _listed(self) -> list[ListedCohort]:
        return await self._segments.cohorts.listed(self._app, self._clock.now_ms())

    async def _waiting(self) -> list[ListedCohort]:
        """Return the cohorts that were requested, have changed, or may repeat a failed run."""
        listed = await self._listed()
        active = {cohort.cohort_id for cohort in listed if cohort.standing == "active"}
        self._state.keep({cohort.cohort_id for cohort in listed}, active)
        idle = [cohort for cohort in listed if cohort.no not in self._active]
        return [one for one in idle if self._is_requested(one) or self._is_outdated(one)]

    def _is_requested(self, cohort: ListedCohort) -> bool:
        return self._state.is_requested(cohort.cohort_id)

    def _is_outdated(self, cohort: ListedCohort) -> bool:
        is_kept = cohort.standing == "active" and cohort.cohort_id in self._policy.selected
        is_outdated = self._state.has_failed(cohort.no) or cohort.has_changed
        return is_kept and is_outdated and not self._state.was_tried(cohort.no)

    async def _start_due(self, group: TaskGroup, cohorts: Sequence[ListedCohort]) -> None:
        now_ms = self._budget.now_ms()
        candidates = [self._candidate(cohort, now_ms) for cohort in cohorts]
        recent = await self._budget.recent()
        planned = plan(candidates, self._budget.allowance, recent, now_ms)
        dues = [self._after_pause(due, now_ms) for due in planned]
        self._dues = {due.cohort_id: due for due in dues}
        by_id = {cohort.cohort_id: cohort for cohort in cohorts}
        for due in dues:
            if due.due_at <= now_ms and not self._list_error:
                await self._start(group, by_id[due.cohort_id], None)

    def _after_pause(self, due: Due, now_ms: int) -> Due:
        """Return a due time that respects the pause Amplitude asked for."""
        free_at = now_ms + round((self._busy_until_s - self._clock.monotonic_s()) * 1000)
        pause = Due(due.cohort_id, free_at, "Amplitude takes no more exports for a while")
        return due if free_at <= max(now_ms, due.due_at) else pause

    def _candidate(self, cohort: ListedCohort, now_ms: int) -> Candidate:
        return Candidate(
            cohort_id=cohort.cohort_id,
            is_first=cohort.applied is None,
            is_manual=self._is_requested(cohort),
            # A wait begins anew with every download, or a cohort that changes all the time would
            # stay ahead of the others for ever.
            stale_since=max(cohort.stale_since or now_ms, cohort.last_requested_at or 0),
            last_downloaded_at=cohort.last_requested_at,
            changes=cohort.changes,
        )

    async def _start(self, group: TaskGroup, cohort: ListedCohort, reused: str | None) -> bool:
        """Start a download; False if none is free, or exports pause."""
        is_paused = reused is None and self._clock.monotonic_s() < self._busy_until_s
        if is_paused or len(self._active) >= PARALLEL_DOWNLOADS:
            return False
        self._state.start(cohort.no, cohort.cohort_id)
        self._dues.pop(cohort.cohort_id, None)
        try:
            download = await self._downloads.begin(cohort, reused)
        except StoreFull as error:
            self._state.fail(cohort.no, cohort.cohort_id, str(error))
            return True
        await self._budget.count()
        self._run_download(group, download, is_resumed=False)
        return True

    async def _resume(self, group: TaskGroup) -> None:
        """Go on with the runs that an earlier process left."""
        ids = {cohort.no: cohort.cohort_id for cohort in await self._listed()}
        for run in await self._segments.downloads.open_runs(self._app):
            download = await self._downloads.resume(run, ids[run.cohort])
            self._run_download(group, download, is_resumed=True)

    def _run_download(self, group: TaskGroup, download: Download, *, is_resumed: bool) -> None:
        self._active.add(download.cohort)
        name = f"download of cohort {download.cohort}"
        group.start_soon(self._carry_out, download, is_resumed, name=name)

    async def _carry_out(self, download: Download, is_resumed: bool) -> None:  # noqa: FBT001  # a task's argument
        try:
            outcome = await self._downloads.carry_out(download, is_resumed=is_resumed)
            reason = outcome.reason if outcome.state is RunState.FAILED else None
        except UpstreamBusy as error:
            reason = str(error)
            pause_s = error.retry_after_s or min(BUSY_S, self._policy.interval_s)
            self._busy_until_s = max(self._busy_until_s, self._clock.monotonic_s() + pause_s)
        except (UpstreamError, StoreFull) as error:
            reason = str(error)
        finally:
            self._active.discard(download.cohort)
            self._wakeup.set()
        if reason is None:
            self._state.succeed(download.cohort, download.cohort_id)
        else:
            self._state.fail(download.cohort, download.cohort_id, reason)

    async def _rest(self) -> None:
        """Wait for the next list, the next download due, or a wake-up."""
        now_ms = self._budget.now_ms()
        wait_s = self._next_list_s - self._clock.monotonic_s()
        # While every place is taken, or the list is unknown, a due cohort is no reason to wake up.
        if not self._list_error and len(self._active) < PARALLEL_DOWNLOADS:
            for due in self._dues.values():
                wait_s = min(wait_s, (due.due_at - now_ms) / 1000)
        with anyio.move_on_after(max(wait_s, 0.0)):
            while True:
                self.heartbeat.beat(BEAT_S)
                with anyio.move_on_after(BEAT_S):
                    await self._wakeup.wait()
                    break
        self._wakeup = anyio.Event()
