"""Ending in order."""

import anyio

from relay.delivery.shutdown import ShutdownSignal


async def test_a_request_ends_every_idle_wait() -> None:
    """Every interruptible waiter resumes at once."""
    stop = ShutdownSignal()
    ended = []

    async def wait() -> None:
        with stop.interruptible():
            await anyio.sleep_forever()
        ended.append(stop.is_requested)

    with anyio.fail_after(2):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            stop.request()
    assert ended == [True] * 3


async def test_a_wait_that_begins_after_the_request_does_not_wait() -> None:
    """A stop is for good."""
    stop = ShutdownSignal()
    stop.request()
    with anyio.fail_after(2), stop.interruptible():
        await anyio.sleep_forever()
    assert stop.is_requested


async def test_what_is_not_interruptible_goes_on() -> None:
    """A stop ends waits, not work."""
    stop = ShutdownSignal()
    with stop.interruptible():
        pass
    stop.request()
    await anyio.lowlevel.checkpoint()
    assert stop.is_requested
