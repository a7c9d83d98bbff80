"""What operators do to a running relay: pause, resume, retry, discard, erase, set the clock."""

from contextlib import suppress

import anyio

from relay.delivery.pool import SenderPool
from relay.errors import StoreFull
from relay.outbox.selection import Selection
from relay.outbox.store import Outbox
from tests.simulation.app import App
from tests.simulation.clock import WallClock
from tests.simulation.journal import Journal
from tests.simulation.scenario import Scenario

MAX_SWEEPS = 3
HOUR_MS = 3_600_000


class Operators:
    """They act at random moments on one app.

    Attributes:
        unfinished: Users whose erasure was begun.
    """

    def __init__(
        self, name: str, app: App, scenario: Scenario, journal: Journal, clock: WallClock
    ) -> None:
        self._name = name
        self._app = app
        self._scenario = scenario
        self._journal = journal
        self._clock = clock
        self._rng = scenario.rng(f"people {name}")
        self.unfinished: list[str] = []

    async def act(self, outbox: Outbox, delivery: SenderPool) -> None:
        """Act now and then until cancelled."""
        while True:
            await anyio.sleep(self._rng.expovariate(6 / self._scenario.span_s))
            if anyio.current_time() > self._scenario.span_s:
                return
            deed = self._rng.choice(self._scenario.operators)
            self._journal.note("deed", self._name, deed)
            with suppress(StoreFull):  # the operator sees the error and tries again later
                await self._do(deed, outbox, delivery)

    async def _do(self, deed: str, outbox: Outbox, delivery: SenderPool) -> None:
        match deed:
            case "pause":
                await self.set_paused(outbox, delivery, paused=self._rng.random() < 0.6)
            case "retry":
                await self._retry(outbox)
            case "discard":
                await self._discard(outbox)
            case "forget":
                user = f"u{self._rng.randrange(self._scenario.devices)}"
                await self._forget(outbox, user)
            case "clock":
                self._clock.set_ahead_ms(self._rng.randint(-48 * HOUR_MS, 48 * HOUR_MS))
            case _:
                await delivery.dispatcher.oldest_accepted_at()

    async def set_paused(self, outbox: Outbox, delivery: SenderPool, *, paused: bool) -> None:
        """Pause or resume an app's delivery, as the admin door does."""
        await outbox.counters.set_paused(self._name, paused=paused)
        delivery.breaker.set_paused(paused=paused)
        if not paused:
            self._app.project.help()

    async def _retry(self, outbox: Outbox) -> None:
        selection = Selection(app=outbox.counters.number(self._name))
        dead_letters = await outbox.dead_letters.page(selection, after=0, limit=1000)
        chosen = dead_letters[: self._rng.choice((1, 3, 1000))]
        for dead_letter in chosen:
            self._app.retry(dead_letter.insert_id, is_expired=dead_letter.reason == "expired")
        await outbox.dead_letters.retry(Selection(tuple(dead_letter.id for dead_letter in chosen)))

    async def _discard(self, outbox: Outbox) -> None:
        selection = Selection(app=outbox.counters.number(self._name))
        dead_letters = await outbox.dead_letters.page(selection, after=0, limit=3)
        for dead_letter in dead_letters:
            self._app.discard(dead_letter.insert_id)
        await outbox.dead_letters.discard(
            Selection(tuple(dead_letter.id for dead_letter in dead_letters))
        )

    async def _forget(self, outbox: Outbox, user: str) -> None:
        """Reject events of a user from now on, then remove those stored."""
        self._app.source.forgotten.add(user)
        self.unfinished.append(user)
        await self.finish(outbox)

    async def finish(self, outbox: Outbox) -> None:
        """Complete interrupted erasures."""
        number = outbox.counters.number(self._name)
        for user in list(self.unfinished):
            self._app.discard_user(user)
            for _ in range(MAX_SWEEPS):
                if not await outbox.erasure.remove(number, user):
                    break
            self.unfinished.remove(user)
