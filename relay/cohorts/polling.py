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
from relay.cohorts.download import Download
from relay.cohorts.polled_app import (
    PolledApp,
    PollingOff,
    PollPolicy,
    PollStatus,
    UnknownCohort,
)
from relay.cohorts.spending import Spending
from relay.cohorts.staleness import needs_refresh
from relay.errors import (
    StoreFull,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from relay.pulse import Pulse
from relay.segments.catalog import Catalog, ListedCohort
from relay.segments.polls import Polls
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
        pulse: Its sign of life.
    """

    def __init__(
        self, app: PolledApp, catalog: Catalog, polls: Polls, policy: PollPolicy, clock: Clock
    ) -> None:
        self._app = app
        self._catalog = catalog
        self._polls = polls
        self._policy = policy
        self._clock = clock
        self.pulse = Pulse(clock)
        self._wakeup = anyio.Event()
        self._manual: set[str] = set()
        self._under_way: set[int] = set()
        self._tried: set[int] = set()  # since the list was read: what fails waits for the next
        self._spending = Spending(app.no, polls, policy.monthly, clock)
        self._dues: dict[str, Due] = {}
        self._list_error: str | None = None
        self._errors: dict[str, str] = {}
        self._failed: set[int] = set()  # whose last run failed: an export that serves is used
        self._busy_until = 0  # Amplitude asked for a pause before the next export
        self._next_list_s = 0.0

    def status(self) -> PollStatus:
        """Return how the app's downloads stand."""
        waiting = min(self._dues.values(), key=lambda due: due.due_at, default=None)
        return PollStatus(
            self._spending.allowance.spent,
            self._spending.allowance.left,
            waiting.due_at if waiting else None,
            self._list_error
            or next(iter(self._errors.values()), None)
            or (waiting.reason if waiting else None),
        )

    def due_of(self, cohort_id: str) -> Due | None:
        """Return when a waiting cohort is due, None if it does not wait."""
        return self._dues.get(cohort_id)

    async def request_sync(self, cohort_id: str) -> bool:
        """Have a cohort downloaded soon, whether it changed or not; False if it is under way.

        Raises:
            PollingOff: If the app's cohorts are not polled.
            UnknownCohort: If Amplitude does not list it.
        """
        if self._policy.off:
            raise PollingOff(self._policy.off)
        listed = await self._catalog.listed(self._app.no, self._clock.now_ms())
        cohort = next((one for one in listed if one.cohort_id == cohort_id), None)
        if cohort is None:
            raise UnknownCohort("Amplitude's list has no cohort of that id")
        if cohort.no in self._under_way or cohort_id in self._manual:
            return False
        self._manual.add(cohort_id)
        self._wakeup.set()
        return True

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Poll until cancelled."""
        await self._spending.count()
        task_status.started()
        if self._policy.off:
            await self._idle()
        async with anyio.create_task_group() as group:
            await self._resume(group)
            while True:
                await self._turn(group)
                await self._rest()

    async def _idle(self) -> None:
        """Only keep the count of the month; what a former process left cannot go on."""
        for run in await self._polls.open_runs(self._app.no):
            await self._polls.fail(run.run_id, str(self._policy.off), self._clock.now_ms())
        while True:
            self.pulse.beat(BEAT_S)
            await anyio.sleep(BEAT_S)
            await self._spending.count()

    async def _turn(self, group: TaskGroup) -> None:
        """Read the list if it is time, and begin every download that is due."""
        if self._clock.monotonic_s() >= self._next_list_s:
            await self._read_list()
            self._tried.clear()
        await self._spending.count()
        paid = []
        for cohort in await self._waiting():
            reused = None if self._list_error else await self._reusable_export(cohort)
            if reused:
                await self._begin(group, cohort, reused)
            elif cohort.cohort_id in self._manual or self._is_wanted(cohort):
                paid.append(cohort)
        await self._begin_due(group, [one for one in paid if one.no not in self._under_way])

    async def _reusable_export(self, cohort: ListedCohort) -> str | None:
        """Return the export with which a run is repeated; a person's wish asks for a new one."""
        if cohort.cohort_id in self._manual:
            return None
        return await self._app.downloads.reusable_export(cohort)

    async def _read_list(self) -> None:
        wait_s = self._policy.interval_s
        self.pulse.beat(LIST_S)
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
        ids = {cohort.cohort_id for cohort in listed if cohort.standing == "active"}
        self._manual &= {cohort.cohort_id for cohort in listed}
        self._errors = {id_: error for id_, error in self._errors.items() if id_ in ids}
        return [
            cohort
            for cohort in listed
            if cohort.no not in self._under_way
            and (
                cohort.cohort_id in self._manual
                or (cohort.no not in self._tried and self._is_wanted(cohort))
                or (cohort.no not in self._tried and cohort.no in self._failed)
            )
        ]

    def _is_wanted(self, cohort: ListedCohort) -> bool:
        return (
            cohort.standing == "active"
            and cohort.cohort_id in self._policy.selected
            and needs_refresh(
                cohort.listed, applied=cohort.applied, rejected=cohort.rejected, held=cohort.held
            )
        )

    async def _begin_due(self, group: TaskGroup, cohorts: Sequence[ListedCohort]) -> None:
        now_ms = self._clock.now_ms()
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
        if self._busy_until <= max(now_ms, due.due_at):
            return due
        return Due(due.cohort_id, self._busy_until, "Amplitude takes no more exports for a while")

    def _candidate(self, cohort: ListedCohort, now_ms: int) -> Candidate:
        return Candidate(
            cohort_id=cohort.cohort_id,
            is_first=cohort.applied is None,
            is_manual=cohort.cohort_id in self._manual,
            stale_since=max(cohort.stale_since or now_ms, cohort.last_requested_at or 0),
            last_downloaded_at=cohort.last_requested_at,
            changes=cohort.changes,
        )

    async def _begin(self, group: TaskGroup, cohort: ListedCohort, reused: str | None) -> None:
        """Begin a download if there is a place for it; a later turn does if not."""
        is_held_off = reused is None and self._clock.now_ms() < self._busy_until
        if is_held_off or len(self._under_way) >= PARALLEL_DOWNLOADS:
            return
        self._manual.discard(cohort.cohort_id)
        self._dues.pop(cohort.cohort_id, None)
        try:
            download = await self._app.downloads.begin(cohort, reused)
        except StoreFull as error:
            self._note_error(cohort.cohort_id, str(error))
            self._tried.add(cohort.no)
            return
        await self._spending.count()
        self._start(group, download, is_resumed=False)

    async def _resume(self, group: TaskGroup) -> None:
        """Go on with the runs that a former process left."""
        listed = await self._catalog.listed(self._app.no, self._clock.now_ms())
        ids = {cohort.no: cohort.cohort_id for cohort in listed}
        for run in await self._polls.open_runs(self._app.no):
            download = await self._app.downloads.resume(run, ids[run.cohort])
            self._start(group, download, is_resumed=True)

    def _start(self, group: TaskGroup, download: Download, *, is_resumed: bool) -> None:
        self._under_way.add(download.cohort)
        self._tried.add(download.cohort)
        name = f"download of cohort {download.cohort}"
        group.start_soon(self._carry_out, download, is_resumed, name=name)

    async def _carry_out(self, download: Download, is_resumed: bool) -> None:  # noqa: FBT001  # a task's argument
        try:
            outcome = await self._app.downloads.carry_out(download, is_resumed=is_resumed)
            is_failed = outcome.state is RunState.FAILED
            self._note_error(download.cohort_id, outcome.reason if is_failed else None)
        except UpstreamBusy as error:
            is_failed = True
            self._note_error(download.cohort_id, str(error))
            pause_s = error.retry_after_s or min(BUSY_S, self._policy.interval_s)
            self._busy_until = self._clock.now_ms() + round(pause_s * 1000)
        except (UpstreamError, StoreFull) as error:
            is_failed = True
            self._note_error(download.cohort_id, str(error))
        finally:
            self._under_way.discard(download.cohort)
            self._wakeup.set()
        (self._failed.add if is_failed else self._failed.discard)(download.cohort)

    def _note_error(self, cohort_id: str, reason: str | None) -> None:
        self._errors.pop(cohort_id, None)
        if reason:
            self._errors[cohort_id] = f"cohort {cohort_id}: {reason}"

    async def _rest(self) -> None:
        """Wait for the next list, the next download due, or a wake-up."""
        now_ms = self._clock.now_ms()
        wait_s = self._next_list_s - self._clock.monotonic_s()
        if not self._list_error and len(self._under_way) < PARALLEL_DOWNLOADS:
            for due in self._dues.values():
                wait_s = min(wait_s, (due.due_at - now_ms) / 1000)
        with anyio.move_on_after(max(wait_s, 0.0)):
            while True:
                self.pulse.beat(BEAT_S)
                with anyio.move_on_after(BEAT_S):
                    await self._wakeup.wait()
                    break
        self._wakeup = anyio.Event()
