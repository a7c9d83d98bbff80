"""The poller of one app: reads Amplitude's list of cohorts, downloads what changed.

Listing is free, downloads are not: `relay.cohorts.budget` says whose turn is when. Downloads run
beside the loop, a few at once; one that fails never stops another.
"""

from collections.abc import Sequence

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from relay.clock import Clock
from relay.cohorts.budget import Candidate, Due, plan
from relay.cohorts.download import Download, DownloadPolicy
from relay.cohorts.poll_state import PollState
from relay.cohorts.polled_app import PolledApp, PollPolicy, PollStatus, has_changed
from relay.cohorts.usage import BudgetUsage
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
from relay.segments.cohorts import Cohorts, ListedCohort
from relay.segments.download_log import DownloadLog
from relay.segments.runs import RunState

log = structlog.get_logger(__name__)

PARALLEL_DOWNLOADS = 4
"""Source: Amplitude, Behavioral Cohorts API (2026): four downloads in parallel."""

BEAT_S = 5.0
"""The loop gives a sign of life at least so often."""

BUSY_S = 60.0
"""Pause of all exports after a 429 that does not say how long."""

LIST_S = 150.0
"""Amplitude may take so long for the list and its count."""


class Poller:
    """The loop of one app.

    Attributes:
        heartbeat: Its sign of life.
    """

    def __init__(
        self, app: PolledApp, catalog: Cohorts, polls: DownloadLog, policy: PollPolicy, clock: Clock
    ) -> None:
        self._app = app
        self._catalog = catalog
        self._polls = polls
        self._policy = policy
        self._clock = clock
        self.heartbeat = Heartbeat(clock)
        self._wakeup = anyio.Event()
        self._under_way: set[int] = set()
        self._attempts = PollState()
        self._spending = BudgetUsage(app.no, polls, policy.monthly, clock)
        self._dues: dict[str, Due] = {}
        self._list_error: str | None = None
        self._busy_until_s = 0.0  # Amplitude asked for a pause before the next export
        self._next_list_s = 0.0

    def status(self) -> PollStatus:
        """Return how the app's downloads stand."""
        waiting = min(self._dues.values(), key=lambda due: due.due_at, default=None)
        return PollStatus(
            self._spending.allowance.spent,
            self._spending.allowance.left,
            waiting.due_at if waiting else None,
            self._list_error or self._attempts.first_error or (waiting.reason if waiting else None),
        )

    def due_of(self, cohort_id: str) -> Due | None:
        """Return when a waiting cohort is due, None if it does not wait."""
        return self._dues.get(cohort_id)

    def adjust(self, policy: PollPolicy, downloading: DownloadPolicy) -> None:
        """Go on as other policies say, and look at Amplitude's list again."""
        self._policy = policy
        self._spending.monthly = policy.monthly
        self._app.downloads.policy = downloading
        self._next_list_s = 0.0
        self._wakeup.set()

    async def request_sync(self, cohort_id: str) -> bool:
        """Have a cohort downloaded soon, whether it changed or not; False if it is under way.

        Raises:
            Conflict: If the app's cohorts are not polled.
            NotFound: If Amplitude does not list it.
        """
        if self._policy.off:
            raise Conflict(self._policy.off)
        listed = await self._catalog.listed(self._app.no, self._clock.now_ms())
        cohort = next((one for one in listed if one.cohort_id == cohort_id), None)
        if cohort is None:
            raise NotFound("Amplitude's list has no cohort of that id")
        if cohort.no in self._under_way or not self._attempts.wish(cohort_id):
            return False
        self._wakeup.set()
        return True

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Poll until cancelled."""
        await self._spending.count()
        await self._fail_left_behind()
        task_status.started()
        async with anyio.create_task_group() as group:
            await self._resume(group)
            while True:
                await self._stand_still()
                await self._turn(group)
                await self._rest()

    async def _fail_left_behind(self) -> None:
        """Let runs of a former process fail if they cannot go on."""
        for run in await self._polls.open_runs(self._app.no) if self._policy.off else ():
            await self._polls.fail(run.run_id, str(self._policy.off), self._clock.now_ms())

    async def _stand_still(self) -> None:
        """Only keep the count of the month, for as long as the settings say so."""
        while self._policy.off:
            self._dues, self._list_error = {}, None
            self.heartbeat.beat(BEAT_S)
            await anyio.sleep(BEAT_S)
            await self._spending.count()

    async def _turn(self, group: TaskGroup) -> None:
        """Read the list if it is time, and begin every download that is due."""
        if self._clock.monotonic_s() >= self._next_list_s:
            await self._read_list()
            self._attempts.list_was_read()
            await self._app.downloads.write_off(self._under_way)
            await self._repeat_failed(group)
        await self._spending.count()
        due = [one for one in await self._waiting() if self._is_paid_for(one)]
        await self._begin_due(group, due)

    async def _repeat_failed(self, group: TaskGroup) -> None:
        """Repeat failed runs whose export still serves; that costs no download."""
        if self._list_error:
            return
        for cohort in await self._waiting():
            self.heartbeat.beat(LIST_S)
            try:
                reused = await self._app.downloads.reusable_export(cohort)
            except UpstreamError as error:
                self._attempts.skip(cohort.no, cohort.cohort_id, str(error))
                continue
            if reused and not await self._begin(group, cohort, reused):
                self._attempts.postpone(cohort.no)

    def _is_paid_for(self, cohort: ListedCohort) -> bool:
        """Return whether a new export of a cohort is worth its price."""
        return self._attempts.is_wished(cohort.cohort_id) or has_changed(cohort)

    async def _read_list(self) -> None:
        wait_s = self._policy.interval_s
        self.heartbeat.beat(LIST_S)
        try:
            cohorts = await self._app.source.list_cohorts()
            self._spending.correct(await self._app.source.read_usage())
            await self._catalog.note_listing(self._app.no, cohorts, self._clock.now_ms())
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

    async def _waiting(self) -> list[ListedCohort]:
        """Return the cohorts worth a download, and those whose run may be repeated."""
        listed = await self._catalog.listed(self._app.no, self._clock.now_ms())
        active = {cohort.cohort_id for cohort in listed if cohort.standing == "active"}
        self._attempts.keep({cohort.cohort_id for cohort in listed}, active)
        return [
            cohort
            for cohort in listed
            if cohort.no not in self._under_way
            and (
                self._attempts.is_wished(cohort.cohort_id)
                or (not self._attempts.was_tried(cohort.no) and self._is_due_for_work(cohort))
            )
        ]

    def _is_due_for_work(self, cohort: ListedCohort) -> bool:
        """Return whether a selected, active cohort has changed, or its last run failed."""
        is_kept = cohort.standing == "active" and cohort.cohort_id in self._policy.selected
        return is_kept and (self._attempts.has_failed(cohort.no) or has_changed(cohort))

    async def _begin_due(self, group: TaskGroup, cohorts: Sequence[ListedCohort]) -> None:
        now_ms = self._spending.now_ms()
        candidates = [self._candidate(cohort, now_ms) for cohort in cohorts]
        recent = await self._spending.recent()
        planned = plan(candidates, self._spending.allowance, recent, now_ms)
        dues = [self._after_pause(due, now_ms) for due in planned]
        self._dues = {due.cohort_id: due for due in dues}
        by_id = {cohort.cohort_id: cohort for cohort in cohorts}
        for due in dues:
            if due.due_at <= now_ms and not self._list_error:
                await self._begin(group, by_id[due.cohort_id], None)

    def _after_pause(self, due: Due, now_ms: int) -> Due:
        """Return a due time that heeds the pause Amplitude asked for."""
        free_at = now_ms + round((self._busy_until_s - self._clock.monotonic_s()) * 1000)
        pause = Due(due.cohort_id, free_at, "Amplitude takes no more exports for a while")
        return due if free_at <= max(now_ms, due.due_at) else pause

    def _candidate(self, cohort: ListedCohort, now_ms: int) -> Candidate:
        return Candidate(
            cohort_id=cohort.cohort_id,
            is_first=cohort.applied is None,
            is_manual=self._attempts.is_wished(cohort.cohort_id),
            stale_since=max(cohort.stale_since or now_ms, cohort.last_requested_at or 0),
            last_downloaded_at=cohort.last_requested_at,
            changes=cohort.changes,
        )

    async def _begin(self, group: TaskGroup, cohort: ListedCohort, reused: str | None) -> bool:
        """Begin a download; False if there is no place for it now."""
        is_held_off = reused is None and self._clock.monotonic_s() < self._busy_until_s
        if is_held_off or len(self._under_way) >= PARALLEL_DOWNLOADS:
            return False
        self._attempts.begin(cohort.no, cohort.cohort_id)
        self._dues.pop(cohort.cohort_id, None)
        try:
            download = await self._app.downloads.begin(cohort, reused)
        except StoreFull as error:
            self._attempts.fail(cohort.no, cohort.cohort_id, str(error))
            return True
        await self._spending.count()
        self._start(group, download, is_resumed=False)
        return True

    async def _resume(self, group: TaskGroup) -> None:
        """Go on with the runs that a former process left."""
        listed = await self._catalog.listed(self._app.no, self._clock.now_ms())
        ids = {cohort.no: cohort.cohort_id for cohort in listed}
        for run in await self._polls.open_runs(self._app.no):
            download = await self._app.downloads.resume(run, ids[run.cohort])
            self._start(group, download, is_resumed=True)

    def _start(self, group: TaskGroup, download: Download, *, is_resumed: bool) -> None:
        self._under_way.add(download.cohort)
        name = f"download of cohort {download.cohort}"
        group.start_soon(self._carry_out, download, is_resumed, name=name)

    async def _carry_out(self, download: Download, is_resumed: bool) -> None:  # noqa: FBT001  # a task's argument
        try:
            outcome = await self._app.downloads.carry_out(download, is_resumed=is_resumed)
            reason = outcome.reason if outcome.state is RunState.FAILED else None
        except UpstreamBusy as error:
            reason = str(error)
            pause_s = error.retry_after_s or min(BUSY_S, self._policy.interval_s)
            self._busy_until_s = max(self._busy_until_s, self._clock.monotonic_s() + pause_s)
        except (UpstreamError, StoreFull) as error:
            reason = str(error)
        finally:
            self._under_way.discard(download.cohort)
            self._wakeup.set()
        if reason is None:
            self._attempts.succeed(download.cohort, download.cohort_id)
        else:
            self._attempts.fail(download.cohort, download.cohort_id, reason)

    async def _rest(self) -> None:
        """Wait for the next list, the next download due, or a wake-up."""
        now_ms = self._spending.now_ms()
        wait_s = self._next_list_s - self._clock.monotonic_s()
        if not self._list_error and len(self._under_way) < PARALLEL_DOWNLOADS:
            for due in self._dues.values():
                wait_s = min(wait_s, (due.due_at - now_ms) / 1000)
        with anyio.move_on_after(max(wait_s, 0.0)):
            while True:
                self.heartbeat.beat(BEAT_S)
                with anyio.move_on_after(BEAT_S):
                    await self._wakeup.wait()
                    break
        self._wakeup = anyio.Event()
