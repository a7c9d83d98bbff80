"""What all acts share: the stage, the notes, and waiting for what both sides know."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from relay.demo.evidence import Measured
from relay.demo.process import Stuck
from relay.demo.stage import Stage
from relay.demo.watch import WAIT_S


@dataclass(frozen=True, slots=True)
class Telling:
    """A story being told.

    Attributes:
        stage: Where.
        measured: What was noted so far.
    """

    stage: Stage
    measured: Measured = field(default_factory=Measured)

    async def during(self, act: str, conduct: Callable[[], Awaitable[None]]) -> None:
        """Let OneSignal send an act's events while `conduct` goes on; return after both.

        Raises:
            Stuck: If `conduct` does, as it is and not in a group.
        """
        failure: Stuck | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.stage.play, act, name=f"traffic of {act}")
            try:
                await conduct()
            except Stuck as stuck:
                failure = stuck
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def drain(self, what: str, *, within_s: float = WAIT_S) -> None:
        """Wait until nothing is pending any more.

        Raises:
            Stuck: If that does not happen.
        """
        watch = self.stage.watch
        await watch.next_look()
        await watch.until(lambda: watch.pending == 0, what, within_s=within_s)

    @property
    def dead(self) -> int:
        """Dead letters of all apps, at the last look."""
        latest = self.stage.watch.latest
        return 0 if latest is None else sum(own.dead for own in latest.apps.values())

    @property
    def in_flight(self) -> int:
        """Events in uploads under way, at the last look."""
        latest = self.stage.watch.latest
        return 0 if latest is None else sum(own.in_flight for own in latest.apps.values())

    def stored(self) -> set[str]:
        """Return the insert ids Amplitude holds, of all apps."""
        accounts = (self.stage.account(app) for app in self.stage.apps)
        return {name for account in accounts for name in account.insert_ids}
