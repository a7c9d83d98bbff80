"""When uploads may go: the gate's states, with a clock that stands still."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from relay.delivery.backoff import BackoffPolicy
from relay.delivery.concurrency import Concurrency
from relay.delivery.gate import Gate, GateState, Pass
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
    """A clock that the gate and the test share."""
    return FakeClock()


@pytest.fixture
def gate(clock: FakeClock) -> Gate:
    """A gate that doubles its wait from one second up."""
    policy, concurrency = BackoffPolicy(1.0, CAP_S), Concurrency(SENDERS)
    return Gate(policy, concurrency, halt_probe_s=PROBE_S, clock=clock, rng=_NoChance())


async def _enter(gate: Gate) -> Pass:
    with anyio.fail_after(2):
        return await gate.enter()


@asynccontextmanager
async def _waiting(gate: Gate, senders: int) -> AsyncIterator[list[Pass]]:
    """Have senders wait at the gate while the body runs; yields the passes they get."""
    passes: list[Pass] = []

    async def wait() -> None:
        passes.append(await gate.enter())

    async with anyio.create_task_group() as group:
        for _ in range(senders):
            group.start_soon(wait)
        await wait_all_tasks_blocked()
        yield passes
        group.cancel_scope.cancel()


def _state(gate: Gate) -> GateState:
    return gate.state


def _is_shut_for(gate: Gate, clock: FakeClock, seconds: float) -> bool:
    """Return whether the gate opens after so many seconds and not before."""
    clock.advance(seconds - 0.01)
    before = gate.is_open
    clock.advance(0.01 + 1e-6)
    return not before and gate.is_open


async def test_a_fresh_gate_lets_everybody_through(gate: Gate) -> None:
    """Nothing is known to be wrong, so all senders go at once."""
    passes = [await _enter(gate) for _ in range(4)]
    assert [given.is_trial for given in passes] == [False] * 4
    assert gate.state is GateState.RUNNING


async def test_after_a_failure_one_sender_alone_tries(gate: Gate, clock: FakeClock) -> None:
    """An outage costs one request for each wait, however many senders there are."""
    gate.fail(await _enter(gate), "status 500", None)
    assert gate.state is GateState.BACKING_OFF
    assert gate.last_error == "status 500"
    assert not gate.is_open
    clock.advance(1.0)
    trial = await _enter(gate)
    assert trial.is_trial
    async with _waiting(gate, 3) as passes:
        assert passes == []
        gate.fail(trial, "status 503", None)
        await wait_all_tasks_blocked()
        assert passes == []


async def test_a_trial_that_succeeds_lets_all_go(gate: Gate, clock: FakeClock) -> None:
    """The first success ends the outage for everybody who waits."""
    gate.fail(await _enter(gate), "status 500", None)
    clock.advance(1.0)
    trial = await _enter(gate)
    async with _waiting(gate, 3) as passes:
        gate.succeed(trial)
        await wait_all_tasks_blocked()
        assert len(passes) == 3
        assert not any(given.is_trial for given in passes)
    assert gate.state is GateState.RUNNING
    assert gate.last_error is None


async def test_a_failure_halves_what_may_be_under_way(gate: Gate, clock: FakeClock) -> None:
    """Amplitude was asked too much: when it takes events again, half as many go at once."""
    gate.fail(await _enter(gate), "status 429", None)
    clock.advance(1.0)
    trial = await _enter(gate)
    async with _waiting(gate, SENDERS) as passes:
        gate.succeed(trial)
        await wait_all_tasks_blocked()
        assert len(passes) == SENDERS // 2
        gate.succeed(passes[0])
        await wait_all_tasks_blocked()
        assert len(passes) == SENDERS // 2 + 1


async def test_waits_double_up_to_the_cap(gate: Gate, clock: FakeClock) -> None:
    """Failure after failure the wait grows, and then stays."""
    for wait_s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, CAP_S, CAP_S, CAP_S):
        gate.fail(await _enter(gate), "status 500", None)
        assert _is_shut_for(gate, clock, wait_s)


async def test_uploads_that_fail_together_count_once(gate: Gate, clock: FakeClock) -> None:
    """Four senders in one outage are one failure, not four doublings."""
    passes = [await _enter(gate) for _ in range(4)]
    for given in passes:
        gate.fail(given, "reset", None)
    assert _is_shut_for(gate, clock, 1.0)


async def test_a_late_failure_of_an_earlier_round_does_not_count(
    gate: Gate, clock: FakeClock
) -> None:
    """An upload that began before the outage was known adds nothing to it."""
    slow, quick = await _enter(gate), await _enter(gate)
    gate.fail(quick, "reset", None)
    clock.advance(1.0)
    gate.fail(await _enter(gate), "reset", None)
    gate.fail(slow, "timeout", None)
    assert _is_shut_for(gate, clock, 2.0)


async def test_retry_after_counts_beyond_the_cap(gate: Gate, clock: FakeClock) -> None:
    """What Amplitude asks for is waited out, however long."""
    gate.fail(await _enter(gate), "status 429", 10 * CAP_S)
    assert _is_shut_for(gate, clock, 10 * CAP_S)


async def test_a_shorter_retry_after_does_not_shorten_the_wait(
    gate: Gate, clock: FakeClock
) -> None:
    """The longest wait known counts, also over several answers."""
    first, second = await _enter(gate), await _enter(gate)
    gate.fail(first, "status 429", 500.0)
    gate.fail(second, "status 503", 0.0)
    assert _is_shut_for(gate, clock, 500.0)


async def test_a_success_that_began_before_the_failure_opens_nothing(
    gate: Gate, clock: FakeClock
) -> None:
    """An answer to an earlier upload does not cut short what a later one was asked to wait."""
    early, late = await _enter(gate), await _enter(gate)
    gate.fail(late, "status 429", 500.0)
    gate.succeed(early)
    assert _is_shut_for(gate, clock, 500.0)


async def test_a_halted_app_is_tried_once_for_each_probe(gate: Gate, clock: FakeClock) -> None:
    """Between probes nothing goes; a probe is one upload."""
    gate.halt(await _enter(gate), "bad key")
    assert _state(gate) is GateState.HALTED
    assert gate.last_error == "bad key"
    for _ in range(3):
        assert _is_shut_for(gate, clock, PROBE_S)
        probe = await _enter(gate)
        assert probe.is_trial
        assert not gate.is_open
        gate.halt(probe, "bad key")
    clock.advance(PROBE_S)
    gate.succeed(await _enter(gate))
    assert _state(gate) is GateState.RUNNING


async def test_a_halted_app_stays_halted_when_its_probe_meets_an_outage(
    gate: Gate, clock: FakeClock
) -> None:
    """A timeout says nothing of the key."""
    gate.halt(await _enter(gate), "bad key")
    clock.advance(PROBE_S)
    gate.fail(await _enter(gate), "timeout", None)
    assert gate.state is GateState.HALTED


async def test_a_pass_given_back_lets_another_try(gate: Gate, clock: FakeClock) -> None:
    """A trial that never began does not lock the gate."""
    gate.fail(await _enter(gate), "status 500", None)
    clock.advance(1.0)
    trial = await _enter(gate)
    async with _waiting(gate, 2) as passes:
        gate.leave(trial)
        await wait_all_tasks_blocked()
        assert [given.is_trial for given in passes] == [True]
        gate.leave(trial)  # twice does no harm
        await wait_all_tasks_blocked()
        assert len(passes) == 1


async def test_a_sender_that_gives_up_waiting_leaves_the_gate_usable(
    gate: Gate, clock: FakeClock
) -> None:
    """Cancellation while waiting takes no pass away."""
    gate.fail(await _enter(gate), "status 500", None)
    async with _waiting(gate, 3):
        pass
    clock.advance(1.0)
    assert (await _enter(gate)).is_trial


async def test_a_paused_app_waits_for_a_person(gate: Gate, clock: FakeClock) -> None:
    """Neither time nor success opens a paused gate; resuming does at once."""
    under_way = await _enter(gate)
    gate.set_paused(paused=True)
    assert gate.state is GateState.PAUSED
    async with _waiting(gate, 2) as passes:
        clock.advance(10 * PROBE_S)
        gate.succeed(under_way)
        await wait_all_tasks_blocked()
        assert passes == []
        gate.set_paused(paused=False)
        await wait_all_tasks_blocked()
        assert len(passes) == 2


async def test_resuming_tries_a_halted_app_at_once(gate: Gate) -> None:
    """A person who mended the key does not wait for the probe."""
    gate.halt(await _enter(gate), "bad key")
    async with _waiting(gate, 2) as passes:
        gate.set_paused(paused=False)
        await wait_all_tasks_blocked()
        assert [given.is_trial for given in passes] == [True]


async def test_the_gate_opens_by_itself_when_its_time_is_over() -> None:
    """A waiting sender needs nobody to wake it."""

    class Ticking(FakeClock):
        def monotonic_s(self) -> float:
            return anyio.current_time()

    policy = BackoffPolicy(0.01, 0.01)
    concurrency = Concurrency(SENDERS)
    gate = Gate(policy, concurrency, halt_probe_s=PROBE_S, clock=Ticking(), rng=_NoChance())
    gate.fail(await _enter(gate), "reset", None)
    assert (await _enter(gate)).is_trial


async def test_a_shorter_probe_holds_for_a_halt_under_way(gate: Gate, clock: FakeClock) -> None:
    """New settings count from now on, not from the end of a wait that may be a day long."""
    gate.halt(await _enter(gate), "bad key")
    gate.adjust(BackoffPolicy(1.0, 1.0), PROBE_S / 10)
    clock.advance(PROBE_S / 10)
    assert gate.is_open


async def test_new_settings_never_shorten_what_amplitude_asked_for(
    gate: Gate, clock: FakeClock
) -> None:
    """`Retry-After` is Amplitude's word, the backoff is ours."""
    gate.fail(await _enter(gate), "status 503", 60.0)
    gate.adjust(BackoffPolicy(0.1, 0.1), PROBE_S)
    clock.advance(59.0)
    assert not gate.is_open
    clock.advance(1.0)
    assert gate.is_open
