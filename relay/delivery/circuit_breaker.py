"""Whether an app may upload now: running, backing off, halted or paused.

After a failed upload the whole app backs off; then one sender alone uploads (the half-open
probe), and its success lets all of them go again. So an outage costs one request per wait,
whatever the number of senders. A halted app is probed at a fixed interval, a paused one never.
Pure, except for the event that wakes waiting senders.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

import anyio

from relay.clock import Clock

GROW_AFTER = 10
"""Successful uploads at the full limit before the limit grows by one."""

_MAX_DOUBLINGS = 62
"""The cap rules long before; this keeps the power of two within a float."""


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Exponential backoff with full jitter.

    Attributes:
        base_s: Longest first wait.
        cap_s: Longest wait of all.
    """

    base_s: float
    cap_s: float

    def delay_s(self, attempt: int, *, rng: Random) -> float:
        """Return how long to wait before attempt number `attempt + 1`.

        Full jitter: uniform in [0, min(cap_s, base_s * 2**(attempt - 1))], so that relays
        restarted together do not return together.

        Args:
            attempt: Attempts already made, from 1.
            rng: Source of chance; seeded in tests.

        Raises:
            ValueError: If `attempt` is below 1.

        Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
        """
        if attempt < 1:
            raise ValueError(f"attempt {attempt} was never made")
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
        return rng.uniform(0.0, ceiling_s)


class AdaptiveLimit:
    """How many uploads may be in flight at once: additive increase, multiplicative decrease.

    A failure halves the limit. It grows by one after a run of successful uploads while
    the limit was fully used: an overloaded Amplitude gets relief within one round trip, and a
    lasting capacity is approached from below.

    Attributes:
        limit: Uploads, between 1 and the number of senders.
    """

    def __init__(self, senders: int) -> None:
        self._senders = senders
        self._successes = 0
        self.limit = senders

    def decrease(self) -> None:
        """Halve the limit after a failure."""
        self.limit = max(1, self.limit // 2)
        self._successes = 0

    def record_success(self, in_flight: int) -> None:
        """Count a successful upload, and grow the limit after `GROW_AFTER` of them.

        Args:
            in_flight: Uploads in flight then, this one included.
        """
        # An upload below the limit does not show that Amplitude would bear more at once.
        if in_flight < self.limit or self.limit == self._senders:
            return
        self._successes += 1
        if self._successes >= GROW_AFTER:
            self.limit += 1
            self._successes = 0


class BreakerState(StrEnum):
    """Whether an app's uploads go, as `/status` names it."""

    RUNNING = "running"
    BACKING_OFF = "backing_off"
    HALTED = "halted"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, eq=False)
class Permit:
    """Permission for one upload, compared by identity.

    Attributes:
        is_half_open_probe: Whether no other upload may start until this one has ended.
        failures_before: Failures ever counted when it was granted. Uploads that were in flight
            together and fail together share this number, and count as one failure.
    """

    is_half_open_probe: bool
    failures_before: int


class CircuitBreaker:
    """Grants permits to all senders of one app.

    Attributes:
        policy: The app's waits after failures.
        last_error: Why uploads fail, in words for the operator; None while they work.
        is_paused: Whether the operator paused the app's delivery.
        halt_probe_s: Seconds between two probes of a halted app.
        adaptive_limit: How many uploads may be in flight at once.
    """

    def __init__(
        self,
        policy: BackoffPolicy,
        adaptive_limit: AdaptiveLimit,
        *,
        halt_probe_s: float,
        clock: Clock,
        rng: Random,
    ) -> None:
        self.policy = policy
        self.adaptive_limit = adaptive_limit
        self.halt_probe_s = halt_probe_s
        self._clock = clock
        self._rng = rng
        self._failures = 0  # in a row
        self._failures_ever = 0
        self._ready_at_s = 0.0
        self._retry_after_until_s = 0.0
        self._probe: Permit | None = None
        self._in_flight: set[Permit] = set()
        self._is_halted = False
        self._changed = anyio.Event()
        self.is_paused = False
        self.last_error: str | None = None

    @property
    def state(self) -> BreakerState:
        """The most severe of the conditions that hold."""
        if self.is_paused:
            return BreakerState.PAUSED
        if self._is_halted:
            return BreakerState.HALTED
        return BreakerState.BACKING_OFF if self._failures else BreakerState.RUNNING

    @property
    def is_ready(self) -> bool:
        """Whether an upload may start now."""
        return (
            not self.is_paused and self._has_room and self._clock.monotonic_s() >= self._ready_at_s
        )

    def set_paused(self, *, paused: bool) -> None:
        """Pause or resume the app's delivery; resuming also probes a halted app at once."""
        self.is_paused = paused
        if not paused:
            self._ready_at_s = self._retry_after_until_s = 0.0
        self._wake()

    def configure(self, policy: BackoffPolicy, halt_probe_s: float) -> None:
        """Apply new waits, also to a wait in progress: it is shortened, never extended.

        What Amplitude asked for with `Retry-After` stays.
        """
        self.policy = policy
        self.halt_probe_s = halt_probe_s
        longest_s = halt_probe_s if self._is_halted else policy.cap_s
        own_s = self._clock.monotonic_s() + longest_s
        self._ready_at_s = min(self._ready_at_s, max(own_s, self._retry_after_until_s))
        self._wake()

    async def wait_until_ready(self) -> None:
        """Wait until an upload may start, without acquiring the permit for it."""
        while not self.is_ready:
            await self._wait()

    async def acquire(self) -> Permit:
        """Wait for the permit for one upload; `release` or an outcome returns it."""
        await self.wait_until_ready()
        permit = Permit(bool(self._failures or self._is_halted), self._failures_ever)
        if permit.is_half_open_probe:
            self._probe = permit
        self._in_flight.add(permit)
        return permit

    def release(self, permit: Permit) -> None:
        """Return a permit without an outcome; a second return has no effect."""
        if permit not in self._in_flight:
            return
        self._in_flight.discard(permit)
        if self._probe is permit:
            self._probe = None
        self._wake()

    def succeed(self, permit: Permit) -> None:
        """Record a successful upload: the failure is over."""
        self.adaptive_limit.record_success(len(self._in_flight))
        # An upload that started before the latest failure says nothing about the time since.
        if permit.failures_before == self._failures_ever:
            self._failures = 0
            self._is_halted = False
            self._ready_at_s = self._retry_after_until_s = 0.0
            self.last_error = None
            self._wake()
        self.release(permit)

    def fail(self, permit: Permit, reason: str, retry_after_s: float | None) -> None:
        """Record a failed upload: the app waits, at least as long as Amplitude asks."""
        self.last_error = reason
        now_s = self._clock.monotonic_s()
        # Senders that meet one outage together are one failure, not several doublings.
        if permit.failures_before == self._failures_ever:
            self._failures += 1
            self._failures_ever += 1
            self.adaptive_limit.decrease()
            wait_s = self.policy.delay_s(self._failures, rng=self._rng)
            self._ready_at_s = now_s + (self.halt_probe_s if self._is_halted else wait_s)
        self._retry_after_until_s = max(self._retry_after_until_s, now_s + (retry_after_s or 0.0))
        self._ready_at_s = max(self._ready_at_s, self._retry_after_until_s)
        self.release(permit)

    def halt(self, permit: Permit, reason: str) -> bool:
        """Record that the app itself is refused: probe it rarely until the operator mends it.

        Returns:
            Whether the app was not halted before.
        """
        was_halted = self._is_halted
        self.last_error = reason
        self._is_halted = True
        self._failures_ever += 1
        probe_at_s = self._clock.monotonic_s() + self.halt_probe_s
        self._ready_at_s = max(self._ready_at_s, probe_at_s)  # `Retry-After` may be later
        self.release(permit)
        return not was_halted

    @property
    def _has_room(self) -> bool:
        return self._probe is None and len(self._in_flight) < self.adaptive_limit.limit

    async def _wait(self) -> None:
        """Wait for a change of state, or for the end of the backoff if only that is missing."""
        changed = self._changed
        wait_s = self._ready_at_s - self._clock.monotonic_s()
        is_timed = not self.is_paused and self._has_room
        with anyio.move_on_after(max(wait_s, 0.0) if is_timed else None):
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
