"""When uploads may start: the breaker's states, under a frozen clock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from relay.delivery.circuit_breaker import (
    AdaptiveLimit,
    BackoffPolicy,
    BreakerState,
    CircuitBreaker,
    Permit,
)
from tests.support.clocks import FakeClock

CAP_S = 64.0
PROBE_S = 300.0
SENDERS = 8


class _NoChance(Random):
    """Draws the longest wait each time."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper end."""
        return max(a, b)


@pytest.fixture
def clock() -> FakeClock:
    """A clock shared by the breaker and the test."""
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    """A breaker whose wait doubles from one second."""
    policy, adaptive_limit = BackoffPolicy(1.0, CAP_S), AdaptiveLimit(SENDERS)
    return CircuitBreaker(
        policy, adaptive_limit, halt_probe_s=PROBE_S, clock=clock, rng=_NoChance()
    )


async def _acquire(breaker: CircuitBreaker) -> Permit:
    with anyio.fail_after(2):
        return await breaker.acquire()


@asynccontextmanager
async def _waiting(breaker: CircuitBreaker, senders: int) -> AsyncIterator[list[Permit]]:
    """Have senders wait for permits while the body runs; yields their permits."""
    permits: list[Permit] = []

    async def wait() -> None:
        permits.append(await breaker.acquire())

    async with anyio.create_task_group() as group:
        for _ in range(senders):
            group.start_soon(wait)
        await wait_all_tasks_blocked()
        yield permits
        group.cancel_scope.cancel()


def _state(breaker: CircuitBreaker) -> BreakerState:
    return breaker.state


def _is_blocked_for(breaker: CircuitBreaker, clock: FakeClock, seconds: float) -> bool:
    """Return whether the breaker is ready after `seconds` and not before."""
    clock.advance(seconds - 0.01)
    before = breaker.is_ready
    clock.advance(0.01 + 1e-6)
    return not before and breaker.is_ready


async def test_a_fresh_breaker_admits_every_sender(breaker: CircuitBreaker) -> None:
    """No failure is known, so all senders start at once."""
    permits = [await _acquire(breaker) for _ in range(4)]
    assert [permit.is_half_open_probe for permit in permits] == [False] * 4
    assert breaker.state is BreakerState.RUNNING


async def test_after_a_failure_one_sender_probes(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """An outage costs one request per wait, however many senders there are."""
    breaker.fail(await _acquire(breaker), "status 500", None)
    assert breaker.state is BreakerState.BACKING_OFF
    assert breaker.last_error == "status 500"
    assert not breaker.is_ready
    clock.advance(1.0)
    probe = await _acquire(breaker)
    assert probe.is_half_open_probe
    async with _waiting(breaker, 3) as permits:
        assert permits == []
        breaker.fail(probe, "status 503", None)
        await wait_all_tasks_blocked()
        assert permits == []


async def test_a_successful_probe_admits_every_sender(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """The first success ends the outage for every waiting sender."""
    breaker.fail(await _acquire(breaker), "status 500", None)
    clock.advance(1.0)
    probe = await _acquire(breaker)
    async with _waiting(breaker, 3) as permits:
        breaker.succeed(probe)
        await wait_all_tasks_blocked()
        assert len(permits) == 3
        assert not any(permit.is_half_open_probe for permit in permits)
    assert breaker.state is BreakerState.RUNNING
    assert breaker.last_error is None


async def test_a_failure_halves_the_limit_in_flight(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """After an overload half as many uploads may run."""
    breaker.fail(await _acquire(breaker), "status 429", None)
    clock.advance(1.0)
    probe = await _acquire(breaker)
    async with _waiting(breaker, SENDERS) as permits:
        breaker.succeed(probe)
        await wait_all_tasks_blocked()
        assert len(permits) == SENDERS // 2
        breaker.succeed(permits[0])
        await wait_all_tasks_blocked()
        assert len(permits) == SENDERS // 2 + 1


async def test_waits_double_up_to_the_cap(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """With each failure the wait grows, up to the cap."""
    for wait_s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, CAP_S, CAP_S, CAP_S):
        breaker.fail(await _acquire(breaker), "status 500", None)
        assert _is_blocked_for(breaker, clock, wait_s)


async def test_uploads_that_fail_together_count_once(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """Four senders in one outage are one failure, not four doublings."""
    permits = [await _acquire(breaker) for _ in range(4)]
    for permit in permits:
        breaker.fail(permit, "reset", None)
    assert _is_blocked_for(breaker, clock, 1.0)


async def test_a_late_failure_of_an_earlier_round_does_not_count(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """An upload started before the outage was known adds nothing."""
    slow, quick = await _acquire(breaker), await _acquire(breaker)
    breaker.fail(quick, "reset", None)
    clock.advance(1.0)
    breaker.fail(await _acquire(breaker), "reset", None)
    breaker.fail(slow, "timeout", None)
    assert _is_blocked_for(breaker, clock, 2.0)


async def test_retry_after_counts_beyond_the_cap(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Amplitude's Retry-After is respected, however long."""
    breaker.fail(await _acquire(breaker), "status 429", 10 * CAP_S)
    assert _is_blocked_for(breaker, clock, 10 * CAP_S)


async def test_a_shorter_retry_after_does_not_shorten_the_wait(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """The longest wait known counts, also over several answers."""
    first, second = await _acquire(breaker), await _acquire(breaker)
    breaker.fail(first, "status 429", 500.0)
    breaker.fail(second, "status 503", 0.0)
    assert _is_blocked_for(breaker, clock, 500.0)


async def test_a_success_that_began_before_the_failure_opens_nothing(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """The result of an earlier upload does not shorten a later wait."""
    early, late = await _acquire(breaker), await _acquire(breaker)
    breaker.fail(late, "status 429", 500.0)
    breaker.succeed(early)
    assert _is_blocked_for(breaker, clock, 500.0)


async def test_a_halted_app_is_tried_once_per_probe(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """Between probes nothing is sent; a probe is one upload."""
    breaker.halt(await _acquire(breaker), "bad key")
    assert _state(breaker) is BreakerState.HALTED
    assert breaker.last_error == "bad key"
    for _ in range(3):
        assert _is_blocked_for(breaker, clock, PROBE_S)
        probe = await _acquire(breaker)
        assert probe.is_half_open_probe
        assert not breaker.is_ready
        breaker.halt(probe, "bad key")
    clock.advance(PROBE_S)
    breaker.succeed(await _acquire(breaker))
    assert _state(breaker) is BreakerState.RUNNING


async def test_a_halted_app_stays_halted_when_its_probe_meets_an_outage(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """A timeout says nothing about the key."""
    breaker.halt(await _acquire(breaker), "bad key")
    clock.advance(PROBE_S)
    breaker.fail(await _acquire(breaker), "timeout", None)
    assert breaker.state is BreakerState.HALTED


async def test_a_released_permit_allows_another_probe(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """A probe that never started does not lock the breaker."""
    breaker.fail(await _acquire(breaker), "status 500", None)
    clock.advance(1.0)
    probe = await _acquire(breaker)
    async with _waiting(breaker, 2) as permits:
        breaker.release(probe)
        await wait_all_tasks_blocked()
        assert [permit.is_half_open_probe for permit in permits] == [True]
        breaker.release(probe)  # twice does no harm
        await wait_all_tasks_blocked()
        assert len(permits) == 1


async def test_a_cancelled_sender_leaves_the_breaker_usable(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """A cancelled waiter takes no permit."""
    breaker.fail(await _acquire(breaker), "status 500", None)
    async with _waiting(breaker, 3):
        pass
    clock.advance(1.0)
    assert (await _acquire(breaker)).is_half_open_probe


async def test_a_paused_app_waits_for_the_operator(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """Neither time nor success opens a paused breaker; resuming does at once."""
    in_flight = await _acquire(breaker)
    breaker.set_paused(paused=True)
    assert breaker.state is BreakerState.PAUSED
    async with _waiting(breaker, 2) as permits:
        clock.advance(10 * PROBE_S)
        breaker.succeed(in_flight)
        await wait_all_tasks_blocked()
        assert permits == []
        breaker.set_paused(paused=False)
        await wait_all_tasks_blocked()
        assert len(permits) == 2


async def test_resuming_tries_a_halted_app_at_once(breaker: CircuitBreaker) -> None:
    """An operator who fixed the key does not wait for the probe."""
    breaker.halt(await _acquire(breaker), "bad key")
    async with _waiting(breaker, 2) as permits:
        breaker.set_paused(paused=False)
        await wait_all_tasks_blocked()
        assert [permit.is_half_open_probe for permit in permits] == [True]


async def test_the_breaker_is_ready_again_when_its_time_is_over() -> None:
    """A waiting sender wakes on time without a notification."""

    class Ticking(FakeClock):
        def monotonic_s(self) -> float:
            return anyio.current_time()

    policy = BackoffPolicy(0.01, 0.01)
    adaptive_limit = AdaptiveLimit(SENDERS)
    breaker = CircuitBreaker(
        policy, adaptive_limit, halt_probe_s=PROBE_S, clock=Ticking(), rng=_NoChance()
    )
    breaker.fail(await _acquire(breaker), "reset", None)
    assert (await _acquire(breaker)).is_half_open_probe


async def test_a_shorter_probe_interval_applies_to_a_current_halt(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """New settings apply at once, not after a wait that may take a day."""
    breaker.halt(await _acquire(breaker), "bad key")
    breaker.configure(BackoffPolicy(1.0, 1.0), PROBE_S / 10)
    clock.advance(PROBE_S / 10)
    assert breaker.is_ready


async def test_new_settings_never_shorten_what_amplitude_asked_for(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    """`Retry-After` comes from Amplitude, the backoff is ours."""
    breaker.fail(await _acquire(breaker), "status 503", 60.0)
    breaker.configure(BackoffPolicy(0.1, 0.1), PROBE_S)
    clock.advance(59.0)
    assert not breaker.is_ready
    clock.advance(1.0)
    assert breaker.is_ready
