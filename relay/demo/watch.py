"""Looks at relay's own numbers again and again, and wakes whoever waits for them to change.

Each look is held against what the stand-ins know: what was promised before relay was asked
must be in its answer, and its answer may not claim what Amplitude does not hold.
"""

from collections.abc import Callable, Mapping
from typing import Final

import anyio
from anyio.abc import TaskStatus

from relay.cli.admin_api import AdminApi
from relay.cli.failure import CommandFailed
from relay.demo.evidence import Known, Look
from relay.demo.process import RelayProcess, Stuck
from relay.http.admin.schemas import AppStatusAnswer, StatusAnswer

REFRESH_S: Final = 0.1
WAIT_S: Final = 20.0


class Watch:
    """Asks relay how it stands until cancelled.

    Attributes:
        looks: Every look there was.
        latest: The last answer; None while nobody answers.
        life: Which start of relay is running.
    """

    def __init__(
        self,
        api: AdminApi,
        process: RelayProcess,
        known: Callable[[], Mapping[str, Known]],
        show: Callable[[], None],
    ) -> None:
        self._api = api
        self._process = process
        self._known = known
        self._show = show
        self._heartbeat = anyio.Event()
        self.looks: list[Look] = []
        self.latest: StatusAnswer | None = None
        self.life = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look, show and wake, several times a second."""
        task_status.started()
        while True:
            await self._look()
            self._show()
            heartbeat, self._heartbeat = self._heartbeat, anyio.Event()
            heartbeat.set()
            await anyio.sleep(REFRESH_S)

    async def _look(self) -> None:
        before, life = self._known(), self.life
        try:
            answer = await self._api.get("/status", StatusAnswer)
        except CommandFailed:
            self.latest = None
            return
        if life != self.life:
            return
        self.latest = answer
        after = self._known()
        self.looks += [
            Look(app, life, before[app], counts, after[app]) for app, counts in answer.apps.items()
        ]

    def app(self, name: str) -> AppStatusAnswer | None:
        """Return an app's latest numbers."""
        return None if self.latest is None else self.latest.apps.get(name)

    @property
    def pending(self) -> int | None:
        """Events of all apps that wait on relay's disk; None while relay does not answer."""
        if self.latest is None:
            return None
        return sum(counts.pending for counts in self.latest.apps.values())

    async def until(
        self, holds: Callable[[], bool], what: str, *, within_s: float = WAIT_S
    ) -> None:
        """Return once `holds` does; it is asked after every look.

        Raises:
            Stuck: If it never does.
            DemoFailed: If relay ends by itself meanwhile.
        """
        with anyio.move_on_after(within_s):
            while not holds():
                self._process.check_alive()
                await self._heartbeat.wait()
            return
        raise Stuck(f"waited {within_s:g} s in vain for this: {what}")

    async def next_look(self) -> None:
        """Return after one whole look that begins from now on.

        Raises:
            Stuck: If none comes.
        """
        heartbeats = 0
        with anyio.move_on_after(WAIT_S):
            while heartbeats < 2:  # noqa: PLR2004 - the one under way began before
                await self._heartbeat.wait()
                heartbeats += 1
            return
        raise Stuck("relay's numbers cannot be read")
