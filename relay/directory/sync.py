"""Syncs the directory with OneSignal by its CSV export, on a schedule, one export at a time."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import anyio
import structlog
from anyio.abc import TaskStatus

from relay.clock import Clock, SteadyClock
from relay.directory.importer import Importer
from relay.errors import (
    Conflict,
    ExportBusy,
    ExportNotReady,
    FileRejected,
    StoreFull,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from relay.heartbeat import Heartbeat
from relay.segments.directory import Directory, ExportScope

log = structlog.get_logger(__name__)

BEAT_S = 5.0
RETRY_S = 300.0
"""After a failure; OneSignal asks for minutes, not seconds, while another export runs."""


class SyncStatus(NamedTuple):
    """The state of an app's sync.

    Attributes:
        is_running: Whether an export is under way.
        last_error: Why the last one failed, None if it did not.
        next_at: When the next one begins, UTC epoch milliseconds; None if none is planned.
    """

    is_running: bool
    last_error: str | None
    next_at: int | None


class ExportSource(Protocol):
    """Where exports come from (`relay.onesignal.export_api.ExportApi`)."""

    async def request_export(self) -> str:
        """Ask for an export; return the address of its file to come."""

    def open_file(self, url: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the file of an export; raises `ExportNotReady` until it is there."""


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """When exports are asked for.

    Attributes:
        interval_s: Between two exports; 0 = only on request.
        poll_s: Between two looks for the file of a running export.
        timeout_s: The longest an export may take, and then its file.
        off: Why nothing is exported, None if it can be.
    """

    interval_s: float
    poll_s: float
    timeout_s: float
    off: str | None = None


@dataclass(frozen=True, slots=True)
class SyncedApp:
    """An app as its sync knows it: name, number, and where its exports come from."""

    name: str
    no: int
    source: ExportSource


class DirectorySync:
    """The loop of one app.

    Attributes:
        heartbeat: Of its loop.
    """

    def __init__(
        self,
        app: SyncedApp,
        importer: Importer,
        directory: Directory,
        policy: SyncPolicy,
        clock: Clock,
    ) -> None:
        self._app = app
        self._importer = importer
        self._directory = directory
        self._policy = policy
        self._clock = clock
        self._steady = SteadyClock(clock)  # an export of 2099 would outdo every later one
        self.heartbeat = Heartbeat(clock)
        self._wanted = anyio.Event()
        self._is_running = False
        self._last_error: str | None = None
        self._next_s: float | None = None

    def status(self) -> SyncStatus:
        """Return the state of the sync."""
        next_at = None
        if self._next_s is not None:
            next_at = self._clock.now_ms() + round(self._left_s(self._next_s) * 1000)
        return SyncStatus(self._is_running, self._last_error, next_at)

    def configure(self, policy: SyncPolicy) -> None:
        """Replace the policy; a shorter interval may bring the next export forward."""
        if policy.off or not policy.interval_s:
            self._next_s = None
        elif policy != self._policy:
            # A reload may only bring the next export forward, or frequent reloads would put it off.
            due_s = self._clock.elapsed_s() + policy.interval_s
            self._next_s = due_s if self._next_s is None else min(self._next_s, due_s)
        self._policy = policy

    async def request_sync(self) -> bool:
        """Begin an export soon; False if one is under way.

        Raises:
            Conflict: If the app's directory cannot be synced from OneSignal.
        """
        if self._policy.off:
            raise Conflict(self._policy.off)
        if self._is_running or self._wanted.is_set():
            return False
        self._wanted.set()
        return True

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Sync the directory until cancelled."""
        self._next_s = await self._first_s()
        task_status.started()
        while True:
            await self._rest()
            self._wanted = anyio.Event()
            self._is_running = True
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_alive, name="heartbeat of a directory sync")
                await self._sync()
                group.cancel_scope.cancel()
            self._is_running = False

    async def _first_s(self) -> float | None:
        """Return when the first export is due: now, unless an earlier process just made one."""
        if self._policy.off or not self._policy.interval_s:
            return None
        synced_at = (await self._directory.counts(self._app.no)).synced_at
        age_s = (self._clock.now_ms() - (synced_at or 0)) / 1000
        is_known = age_s >= 0  # otherwise it was synced by a clock that was set back since
        left_s = self._policy.interval_s - age_s if is_known else 0.0
        return self._clock.elapsed_s() + max(0.0, left_s)

    def _left_s(self, until_s: float) -> float:
        return max(0.0, until_s - self._clock.elapsed_s())

    async def _rest(self) -> None:
        """Wait until the next export is due or requested."""
        while (left_s := BEAT_S if self._next_s is None else self._left_s(self._next_s)) > 0:
            self.heartbeat.beat(BEAT_S)
            self._steady.now_ms()  # a clock step counts from when it is noticed
            with anyio.move_on_after(min(left_s, BEAT_S)):
                await self._wanted.wait()
                return

    async def _keep_alive(self) -> None:
        while True:
            self.heartbeat.beat(BEAT_S)
            await anyio.sleep(BEAT_S)

    async def _sync(self) -> None:
        wait_s = self._policy.interval_s
        try:
            await self._refresh()
            self._last_error = None
        except TimeoutError:
            self._last_error = f"the export was not there within {self._policy.timeout_s:g} s"
        except UpstreamRefused as error:
            self._last_error = str(error)
            wait_s = max(wait_s, RETRY_S)  # asking again soon will not help
        except FileRejected as error:
            # The next export will hardly differ: it waits for its turn.
            self._last_error = f"{error.reason}: {error.detail}"
        except UpstreamUnavailable as error:
            self._last_error = str(error)
            wait_s = min(wait_s, error.retry_after_s or RETRY_S)
        except (UpstreamError, Conflict, StoreFull) as error:
            self._last_error = str(error)
            wait_s = min(wait_s, RETRY_S)
        if self._last_error:
            log.warning("directory.unsynced", app=self._app.name, reason=self._last_error)
        has_schedule = self._policy.interval_s > 0
        self._next_s = self._clock.elapsed_s() + wait_s if has_schedule else None

    async def _refresh(self) -> None:
        """Ask for an export, wait for its file, import it."""
        # The export describes the moment it is asked for: later events are newer than its rows.
        at = self._steady.now_ms()
        with anyio.fail_after(self._policy.timeout_s) as deadline:
            url = await self._begin()
            while True:
                try:
                    async with self._app.source.open_file(url) as chunks:
                        # A large file may take as long again as the export itself.
                        deadline.deadline = anyio.current_time() + self._policy.timeout_s
                        scope = ExportScope(at, is_complete=True)
                        await self._importer.apply(self._app.name, chunks, scope)
                        return
                except ExportNotReady:
                    await anyio.sleep(self._policy.poll_s)

    async def _begin(self) -> str:
        """Ask for an export, once OneSignal has finished any other."""
        while True:
            try:
                return await self._app.source.request_export()
            except ExportBusy:
                await anyio.sleep(self._policy.poll_s)
