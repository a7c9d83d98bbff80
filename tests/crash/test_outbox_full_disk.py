"""A disk without one free byte: the outbox still drains."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from relay.delivery.batching import BatchLimits
from relay.errors import StoreFull
from tests.support.deliveries import SETUP, Bench, ScriptedAmplitude, running_delivery
from tests.support.disks import fill, small_disk
from tests.support.outboxes import append, counts, mapped, running_outbox

EVENTS = 3_000
SETTINGS = replace(SETUP, limits=BatchLimits(500, 900_000, 60))


pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system that can be filled."""
    with small_disk(tmp_path / "disk") as place:
        yield place


@asynccontextmanager
async def _paused(folder: Path) -> AsyncIterator[Bench]:
    setup = replace(SETTINGS, is_paused=True)
    async with running_delivery(folder, ScriptedAmplitude(), setup) as bench:
        for start in range(0, EVENTS, 500):
            events = [mapped(f"e{start + n}", device_id=f"d{start + n}") for n in range(500)]
            await append(bench.outbox, *events)
        yield bench


async def test_a_disk_that_fills_up_does_not_stop_delivery(disk: Path) -> None:
    """Draining needs no free byte."""
    async with _paused(disk / "data") as bench:
        fill(disk)
        bench.delivery.breaker.set_paused(paused=False)
        await bench.settled(EVENTS, within_s=5)


async def test_an_outbox_starts_and_drains_on_a_full_disk(disk: Path) -> None:
    """A restart needs no free byte either."""
    async with _paused(disk / "data"):
        pass
    fill(disk)
    async with running_delivery(disk / "data", ScriptedAmplitude(), SETTINGS) as bench:
        await bench.settled(EVENTS, within_s=5)


async def test_nothing_is_lost_where_the_disk_is_full(disk: Path) -> None:
    """Every answered event is present once there is space, whatever happened in between."""
    async with _paused(disk / "data") as bench:
        fill(disk)
        bench.delivery.breaker.set_paused(paused=False)
        with suppress(StoreFull):
            for number in range(200):
                await append(bench.outbox, mapped(f"new{number}", user_id="x" * 900))
    (disk / "other people's data").unlink()
    async with running_outbox(disk / "data") as outbox:
        found = await counts(outbox)
        assert found.accepted >= EVENTS
    async with running_delivery(disk / "data", ScriptedAmplitude(), SETTINGS) as bench:
        await bench.settled(found.accepted)
