"""What people do to a running relay: pause and resume, retry and discard, forget, set the clock."""

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


class People:
    """They act at moments of their own, on one app.

    Attributes:
        unfinished: Users whom somebody began to forget.
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
        """Do something now and then, until cancelled."""
        while True:
            await anyio.sleep(self._rng.expovariate(6 / self._scenario.span_s))
            if anyio.current_time() > self._scenario.span_s:
                return
            deed = self._rng.choice(self._scenario.people)
            self._journal.note("deed", self._name, deed)
            with suppress(StoreFull):  # they are told so, and try again another time
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
        """Stop an app's delivery or let it go on, as the admin door does."""
        await outbox.counters.set_paused(self._name, paused=paused)
        delivery.breaker.set_paused(paused=paused)
        if not paused:
            self._app.project.help()

    async def _retry(self, outbox: Outbox) -> None:
        selection = Selection(app=outbox.counters.number(self._name))
        letters = await outbox.dead_letters.page(selection, after=0, limit=1000)
        chosen = letters[: self._rng.choice((1, 3, 1000))]
        for letter in chosen:
            self._app.retry(letter.insert_id, is_expired=letter.reason == "expired")
        await outbox.dead_letters.retry(Selection(tuple(letter.id for letter in chosen)))

    async def _discard(self, outbox: Outbox) -> None:
        selection = Selection(app=outbox.counters.number(self._name))
        letters = await outbox.dead_letters.page(selection, after=0, limit=3)
        for letter in letters:
            self._app.discard(letter.insert_id)
        await outbox.dead_letters.discard(Selection(tuple(letter.id for letter in letters)))

    async def _forget(self, outbox: Outbox, user: str) -> None:
        """Let nothing of a user in any more, then remove what there is."""
        self._app.source.forgotten.add(user)
        self.unfinished.append(user)
        await self.finish(outbox)

    async def finish(self, outbox: Outbox) -> None:
        """Go on with what was begun and broken off."""
        number = outbox.counters.number(self._name)
        for user in list(self.unfinished):
            self._app.discard_user(user)
            for _ in range(MAX_SWEEPS):
                if not await outbox.erasure.remove(number, user):
                    break
            self.unfinished.remove(user)
