"""An event loop with virtual time: when nothing is ready, it jumps to the next timer.

No threads, no sockets, no real clock: what runs on it depends on its inputs alone, and an hour
of waiting costs nothing.
"""

import asyncio
from collections.abc import Coroutine
from itertools import count
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")

MAX_STEPS_AT_ONCE = 200_000
"""Loop rounds at one instant; beyond this, tasks wake each other for ever."""


class Stuck(Exception):
    """Nothing is ready and no timer is set, or time stands still: the program hangs."""


class _Task(asyncio.Task[Any]):
    """A task whose order in a set depends on its creation, not on its address."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:  # noqa: ANN401  # asyncio's own
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop without a world outside.

    Attributes:
        unhandled_errors: Errors that no one awaited.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._steps_at_once = 0
        self.unhandled_errors: list[str] = []
        self.set_exception_handler(self._note_unhandled_error)
        self._selector = self  # the base class polls it for outside events
        numbers = count(1)
        self.set_task_factory(
            lambda loop, coro, **options: _Task(next(numbers), coro, loop=loop, **options)
        )

    def time(self) -> float:
        """Return virtual seconds since the start."""
        return self._now_s

    def select(self, timeout: float | None) -> list[NoReturn]:
        """Let `timeout` seconds pass at once; nothing ever happens outside.

        Raises:
            Stuck: If there is nothing to wait for, or time does not pass any more.
        """
        if timeout is None:
            raise Stuck(f"nothing is ready and no timer runs at {self._now_s:.3f} s")
        self._steps_at_once = 0 if timeout else self._steps_at_once + 1
        if self._steps_at_once > MAX_STEPS_AT_ONCE:
            raise Stuck(f"time stands still at {self._now_s:.3f} s")
        self._now_s += timeout
        return []

    def forgive(self) -> None:
        """Restart the count of rounds at this instant."""
        self._steps_at_once = 0

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refuse: a thread would reintroduce chance.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("a simulation has no threads")

    def _note_unhandled_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unhandled_errors.append(f"{context['message']}: {context.get('exception')!r}")

    def _process_events(self, events: list[NoReturn]) -> None:
        assert not events

    def _write_to_self(self) -> None:
        """Do nothing: there is no other thread to wake this one."""


def run_virtually(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` to its end on its own loop.

    Raises:
        Stuck: If it hangs.
        RuntimeError: If something failed that no one awaited.
    """
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(main)
    finally:
        _abandon(loop)
    if loop.unhandled_errors:
        raise RuntimeError("; ".join(loop.unhandled_errors))
    return result


def _abandon(loop: VirtualLoop) -> None:
    """Cancel what still runs after a failure, so that nothing warns when it is collected."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_later(1.0, loop.stop)
    loop.forgive()
    try:
        loop.run_forever()
    finally:
        loop.close()
