"""Polls relay's status, and waits for it to change.

Each answer becomes a sample between two looks at the stand-ins: what was promised before relay
was asked must be in its answer, and the answer may not claim what Amplitude does not hold.
"""

from collections.abc import Callable, Mapping
from typing import Final

import anyio
from anyio.abc import TaskStatus

from relay.cli.client import HttpClient
from relay.demo.evidence import StandInCounts, StatusSample
from relay.demo.relay_process import RelayProcess, StepTimeout
from relay.errors import CommandFailed
from relay.http.admin.operations import NoInput
from relay.http.admin.schemas import AppStatusAnswer, StatusAnswer
from relay.http.admin.status import SHOW_STATUS

INTERVAL_S: Final = 0.1
WAIT_S: Final = 20.0


class StatusPoller:
    """Asks relay for its status until cancelled.

    Attributes:
        samples: Of all answers.
        latest: The last answer; None while relay does not answer.
        starts: How often relay was started.
    """

    def __init__(
        self,
        api: HttpClient,
        process: RelayProcess,
        count_stand_ins: Callable[[], Mapping[str, StandInCounts]],
        on_poll: Callable[[], None],
    ) -> None:
        self._api = api
        self._process = process
        self._count_stand_ins = count_stand_ins
        self._on_poll = on_poll
        self._polls = 0
        self._polled = anyio.Event()
        self.samples: list[StatusSample] = []
        self.latest: StatusAnswer | None = None
        self.starts = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Poll every `INTERVAL_S`."""
        task_status.started()
        while True:
            await self._poll()
            self._on_poll()
            self._polls += 1
            polled, self._polled = self._polled, anyio.Event()
            polled.set()
            await anyio.sleep(INTERVAL_S)

    async def _poll(self) -> None:
        before, start = self._count_stand_ins(), self.starts
        try:
            answer = await self._api.call(SHOW_STATUS, NoInput())
        except CommandFailed:
            self.latest = None
            return
        # An answer of the process that was killed meanwhile says nothing about the new one.
        if start != self.starts:
            return
        self.latest = answer
        after = self._count_stand_ins()
        self.samples += [
            StatusSample(app, start, before[app], counts, after[app])
            for app, counts in answer.apps.items()
        ]

    def expect_restart(self) -> None:
        """Forget the answers of the process that has ended."""
        self.starts += 1
        self.latest = None

    @property
    def is_ready(self) -> bool:
        """Whether relay accepts events."""
        return self.latest is not None and self.latest.ready

    def app(self, name: str) -> AppStatusAnswer | None:
        """Return an app's latest counts, None while relay does not answer."""
        return None if self.latest is None else self.latest.apps.get(name)

    def total(self, count: str) -> int:
        """Return a count over all apps; 0 while relay does not answer."""
        apps = {} if self.latest is None else self.latest.apps
        return sum(getattr(counts, count) for counts in apps.values())

    async def until(
        self, holds: Callable[[], bool], what: str, *, within_s: float = WAIT_S
    ) -> None:
        """Return once a condition holds; it is checked after every poll.

        `what` says in the error what was waited for.

        Raises:
            StepTimeout: If it does not hold in time.
            DemoFailed: If relay ends by itself meanwhile.
        """
        with anyio.move_on_after(within_s):
            while not holds():
                self._process.check_alive()
                await self._polled.wait()
            return
        raise StepTimeout(f"waited {within_s:g} s in vain for this: {what}")

    async def next_poll(self) -> None:
        """Return after one whole poll that begins from now on; fail as `until` does."""
        current = self._polls + 1  # the poll under way began before
        await self.until(lambda: self._polls > current, "a poll of relay's status")

    async def until_drained(self, what: str, *, within_s: float = WAIT_S) -> None:
        """Return once no event is pending; fail as `until` does."""
        await self.next_poll()
        await self.until(
            lambda: self.latest is not None and self.total("pending") == 0, what, within_s=within_s
        )
