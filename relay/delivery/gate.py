"""When an app's uploads may go at all: running, backing off, halted or paused.

After a failed upload the whole app waits (exponential backoff, full jitter), then one sender
alone tries; its success lets all go again. So an outage costs one request per wait, however
many senders there are. How many then go at once follows what Amplitude takes. A halted app is
tried again at a fixed interval; a paused one not at all. The state machine is pure but for the
event that wakes those who wait.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

import anyio

from relay.clock import Clock
from relay.delivery.backoff import BackoffPolicy
from relay.delivery.concurrency import Concurrency


class GateState(StrEnum):
    """How an app's delivery stands, as `/status` names it."""

    RUNNING = "running"
    BACKING_OFF = "backing_off"
    HALTED = "halted"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Permission for one upload; each is one of its own.

    Attributes:
        is_trial: Whether it is the only one, to find out whether uploads work again.
        began: The gate's count of failures when it was given, so that several uploads
            failing together count once.
    """

    is_trial: bool
    began: int


class Gate:
    """The one place all senders of an app pass.

    Attributes:
        policy: How long everybody waits after a failure.
        last_error: Why uploads fail, for people; None while they work.
        is_paused: Whether a person stopped the app's delivery.
        halt_probe_s: How often a halted app is tried.
        concurrency: How many uploads may be under way at once.
    """

    def __init__(
        self,
        policy: BackoffPolicy,
        concurrency: Concurrency,
        *,
        halt_probe_s: float,
        clock: Clock,
        rng: Random,
    ) -> None:
        self.policy = policy
        self.concurrency = concurrency
        self.halt_probe_s = halt_probe_s
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._failures_ever = 0
        self._opens_at_s = 0.0
        self._asked_until_s = 0.0  # by Amplitude
        self._trial: Pass | None = None
        self._under_way: set[Pass] = set()
        self._is_halted = False
        self._changed = anyio.Event()
        self.is_paused = False
        self.last_error: str | None = None

    @property
    def state(self) -> GateState:
        """How delivery stands."""
        if self.is_paused:
            return GateState.PAUSED
        if self._is_halted:
            return GateState.HALTED
        return GateState.BACKING_OFF if self._failures else GateState.RUNNING

    def set_paused(self, *, paused: bool) -> None:
        """Stop or go on, as a person says; going on also tries a halted app at once."""
        self.is_paused = paused
        if not paused:
            self._opens_at_s = self._asked_until_s = 0.0
        self._wake()

    def adjust(self, policy: BackoffPolicy, halt_probe_s: float) -> None:
        """Wait as another policy says, also now, but as long as Amplitude has asked for."""
        self.policy = policy
        self.halt_probe_s = halt_probe_s
        longest_s = halt_probe_s if self._is_halted else policy.cap_s
        own_s = self._clock.monotonic_s() + longest_s
        self._opens_at_s = min(self._opens_at_s, max(own_s, self._asked_until_s))
        self._wake()

    async def open(self) -> None:
        """Return once an upload could begin, without taking the pass for it."""
        while not self.is_open:
            await self._wait()

    async def enter(self) -> Pass:
        """Return the pass for one upload, once there is one; `leave` gives it back."""
        while not self.is_open:
            await self._wait()
        given = Pass(is_trial=bool(self._failures or self._is_halted), began=self._failures_ever)
        if given.is_trial:
            self._trial = given
        self._under_way.add(given)
        return given

    def leave(self, given: Pass) -> None:
        """Give a pass back without saying how the upload ended."""
        if given not in self._under_way:
            return
        self._under_way.discard(given)
        if self._trial is given:
            self._trial = None
        self._wake()

    def succeed(self, given: Pass) -> None:
        """Amplitude took an upload: others may go too, unless one has failed since it began."""
        self.concurrency.note_taken(len(self._under_way))
        if given.began == self._failures_ever:
            self._failures = 0
            self._is_halted = False
            self._opens_at_s = self._asked_until_s = 0.0
            self.last_error = None
            self._wake()
        self.leave(given)

    def fail(self, given: Pass, reason: str, retry_after_s: float | None) -> None:
        """An upload failed: everybody waits, at least as long as Amplitude asks."""
        self.last_error = reason
        now_s = self._clock.monotonic_s()
        if given.began == self._failures_ever:  # not one of several that failed together
            self._failures += 1
            self._failures_ever += 1
            self.concurrency.fall()
            wait_s = self.policy.delay_s(self._failures, rng=self._rng)
            self._opens_at_s = now_s + (self.halt_probe_s if self._is_halted else wait_s)
        self._asked_until_s = max(self._asked_until_s, now_s + (retry_after_s or 0.0))
        self._opens_at_s = max(self._opens_at_s, self._asked_until_s)
        self.leave(given)

    def halt(self, given: Pass, reason: str) -> bool:
        """Uploads of this app are refused: try rarely until a person mends it.

        Returns:
            Whether the app was not halted before.
        """
        is_news = not self._is_halted
        self.last_error = reason
        self._is_halted = True
        self._failures_ever += 1
        probe_s = self._clock.monotonic_s() + self.halt_probe_s
        self._opens_at_s = max(self._opens_at_s, probe_s)  # Amplitude may have asked for longer
        self.leave(given)
        return is_news

    @property
    def is_open(self) -> bool:
        """Whether an upload could begin now."""
        return (
            not self.is_paused and self._has_place and self._clock.monotonic_s() >= self._opens_at_s
        )

    @property
    def _has_place(self) -> bool:
        """Whether one upload more may be under way."""
        return self._trial is None and len(self._under_way) < self.concurrency.limit

    async def _wait(self) -> None:
        """Wait until the state changes or its time is over."""
        changed = self._changed
        wait_s = self._opens_at_s - self._clock.monotonic_s()
        timed = not self.is_paused and self._has_place
        with anyio.move_on_after(max(wait_s, 0.0) if timed else None):
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
