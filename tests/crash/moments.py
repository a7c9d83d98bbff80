"""Moments at which the daemon is killed: each returns when to kill it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

import anyio

from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from tests.support.daemons import DaemonProcess

LONGEST_WAIT_S = 30.0
OTHERS_S = 1.0
"""For further uploads to meet the same fault."""

SENDERS = 4


@dataclass(frozen=True)
class Scene:
    """What a moment can see and do.

    Attributes:
        daemon: The process that will be killed.
        amplitude: Where it uploads.
        rng: Seeded.
        acknowledge: Sends one event and returns at the first byte of its 200.
    """

    daemon: DaemonProcess
    amplitude: AmplitudeStandIn
    rng: Random
    acknowledge: Callable[[], Awaitable[None]]


Moment: TypeAlias = Callable[[Scene], Awaitable[None]]


async def at_boot(scene: Scene) -> None:
    """Wait until some point during or shortly after the start."""
    await _some_time(scene, 0.5)


async def at_ready(scene: Scene) -> None:
    """Wait for `relay.ready`, when the events of the previous process go out."""
    await scene.daemon.until("relay.ready")


async def at_any_time(scene: Scene) -> None:
    """Wait a random time after `relay.ready`."""
    await scene.daemon.until("relay.ready")
    await _some_time(scene, 1.0)


async def after_answer(scene: Scene) -> None:
    """Wait for the first byte of a 200: the event is durable, and nothing else has happened."""
    await scene.daemon.until("relay.ready")
    await scene.acknowledge()


async def after_upload(scene: Scene) -> None:
    """Wait between an upload's answer and its settlement; the log line comes first."""
    await scene.daemon.until("relay.ready")
    await scene.daemon.until("batch.uploaded", scene.rng.randint(1, 6))


async def while_held(scene: Scene) -> None:
    """Wait until Amplitude keeps uploads waiting and has stored nothing."""
    await _met(scene, "hang", scene.rng.randint(1, SENDERS))


async def while_held_stored(scene: Scene) -> None:
    """Wait until Amplitude has stored uploads that it does not answer."""
    await _met(scene, "stored_hang", scene.rng.randint(1, SENDERS))


async def while_slow(scene: Scene) -> None:
    """Wait until slow uploads are in flight and some are done."""
    scene.amplitude.faults.add("slow", delay_s=0.05, seconds=5)
    await at_any_time(scene)


async def after_reset(scene: Scene) -> None:
    """Wait until Amplitude has stored uploads and reset the connection."""
    await _met(scene, "stored_reset", scene.rng.randint(1, SENDERS))


async def in_shutdown(scene: Scene) -> None:
    """Wait until the daemon is shutting down."""
    await scene.daemon.until("relay.ready")
    scene.daemon.terminate()
    await scene.daemon.until("relay.stopping")
    await _some_time(scene, 0.1)


MOMENTS: Final[tuple[Moment, ...]] = (
    at_any_time,
    after_upload,
    while_held,
    after_answer,
    at_boot,
    while_held_stored,
    at_ready,
    while_slow,
    after_reset,
    in_shutdown,
)


UNSEEN: Final = frozenset({at_boot, at_ready})
"""Moments that come before the daemon's counts were inspected."""


async def _some_time(scene: Scene, at_most_s: float) -> None:
    """Wait a random time: here the wait is the fault, not a guess at an event."""
    await anyio.sleep(scene.rng.uniform(0.0, at_most_s))


async def _met(scene: Scene, fault: str, times: int) -> None:
    """Return when this many uploads have met a fault, or fewer: failures lower the concurrency."""
    await scene.daemon.until("relay.ready")
    ledger = scene.amplitude.ledger
    before = sum(line.fault == fault for line in ledger.requests)

    async def come_to(number: int) -> None:
        await ledger.wait_until(
            lambda account: sum(line.fault == fault for line in account.requests) >= before + number
        )

    scene.amplitude.faults.add(fault, count=times)
    with anyio.fail_after(LONGEST_WAIT_S):
        await come_to(1)
    with anyio.move_on_after(OTHERS_S):
        await come_to(times)
