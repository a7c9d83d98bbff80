"""The virtual loop: waiting costs nothing, and a program that hangs is detected."""

import asyncio
from time import monotonic

import anyio
import anyio.to_thread
import pytest

from tests.simulation.loop import Stuck, run_virtually


def test_time_passes_as_asked_for_and_at_once() -> None:
    """Sleepers wake in order, at the exact instants they asked for."""
    woken: list[tuple[float, str]] = []

    async def sleep(name: str, wait_s: float) -> None:
        await anyio.sleep(wait_s)
        woken.append((anyio.current_time(), name))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(sleep, "long", 86_400.0 * 30)
            group.start_soon(sleep, "short", 1.5)
            with anyio.move_on_after(10):
                await anyio.sleep_forever()
            woken.append((anyio.current_time(), "cut"))

    began_s = monotonic()
    run_virtually(main())
    assert woken == [(1.5, "short"), (10.0, "cut"), (86_400.0 * 30, "long")]
    assert monotonic() - began_s < 60


def test_a_wait_for_nothing_is_stuck() -> None:
    """A lost wake-up must not look like a long wait."""

    async def main() -> None:
        await anyio.Event().wait()

    with pytest.raises(Stuck, match="nothing is ready"):
        run_virtually(main())


def test_a_busy_loop_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that wake each other for ever let no time pass."""
    monkeypatch.setattr("tests.simulation.loop.MAX_STEPS_AT_ONCE", 1000)

    async def main() -> None:
        await anyio.sleep(3)
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(Stuck, match=r"stands still at 3\.000 s"):
        run_virtually(main())


def test_there_are_no_threads() -> None:
    """A thread would make two runs of a seed differ."""

    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, print)

    with pytest.raises(RuntimeError, match="no threads"):
        run_virtually(main())


def test_an_unhandled_error_fails_the_run() -> None:
    """A failing callback must fail the run."""

    async def main() -> None:
        asyncio.get_running_loop().call_later(1, [].pop)
        await anyio.sleep(2)

    with pytest.raises(RuntimeError, match="pop from empty list"):
        run_virtually(main())
