"""How many uploads go at once, against an Amplitude of limited capacity."""

from dataclasses import replace
from pathlib import Path

import anyio

from relay.amplitude.verdicts import UploadReply
from relay.delivery.batching import BatchLimits
from tests.support.deliveries import ACCEPTED, SETUP, ScriptedAmplitude, answer, running_delivery
from tests.support.outboxes import append, mapped

SENDERS = 16
CAPACITY = 3
EVENTS = 1_500
LATENCY_S = 0.001
"""Of an upload: without it no two would ever be in flight together."""


class NarrowAmplitude(ScriptedAmplitude):
    """Answers 429 to every upload beyond its capacity.

    Attributes:
        refused: How many it rejected.
        was_full: For each upload, how many were in flight with it.
    """

    def __init__(self) -> None:
        super().__init__(self._judge)
        self.refused = 0
        self.was_full: list[int] = []

    async def upload(self, events: bytes) -> UploadReply:
        """Take a little time, so that uploads overlap."""
        self.in_flight += 1
        self.was_full.append(self.in_flight)
        await anyio.sleep(LATENCY_S)
        self.in_flight -= 1
        return await super().upload(events)

    def _judge(self, _: object) -> UploadReply:
        if self.was_full[len(self.uploads) - 1] <= CAPACITY:
            return ACCEPTED
        self.refused += 1
        return answer(429, error="Too many requests")


async def test_a_narrow_amplitude_is_not_overloaded(tmp_path: Path) -> None:
    """Sixteen senders learn that three uploads are accepted: few are rejected, none are lost."""
    amplitude = NarrowAmplitude()
    limits = BatchLimits(max_events=5, max_bytes=900_000, overhead_bytes=60)
    setup = replace(SETUP, limits=limits, senders=SENDERS)
    async with running_delivery(tmp_path, amplitude, setup) as bench:
        for first in range(0, EVENTS, 100):
            events = [mapped(f"e{n}", device_id=f"d{n}") for n in range(first, first + 100)]
            await append(bench.outbox, *events)
        await bench.settled(EVENTS, within_s=30)
        assert sorted(amplitude.accepted) == sorted(f"e{number}" for number in range(EVENTS))
        assert bench.delivery.breaker.adaptive_limit.limit <= CAPACITY + 1
    needed = EVENTS // 5
    assert amplitude.refused < needed / 4, f"{amplitude.refused} refused of {needed} needed"
