"""A change that waits for the writer, and its result."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Generic, TypeVar

from relay.errors import StoreError

Result = TypeVar("Result")
Change = Callable[[sqlite3.Connection], Result]


class PendingWrite(Generic[Result]):
    """A queued change; many callers may wait for its result.

    Each waits on a future of its own, so that cancelling one leaves the others waiting.

    Attributes:
        is_started: Whether the writer has begun with it; until then its change may grow.
    """

    __slots__ = ("_change", "_error", "_on_commit", "_result", "_waiters", "is_started")

    def __init__(
        self, change: Change[Result], on_commit: Callable[[Result], None] | None = None
    ) -> None:
        self.is_started = False
        self._change = change
        self._on_commit = on_commit
        self._waiters: list[asyncio.Future[None]] | None = []  # None once it is answered
        self._error: BaseException | None = None
        self._result: Result

    async def wait(self) -> Result:
        """Return what the change returned, once it is committed and synced.

        Raises:
            StoreFull: If there was no room; nothing of the change is kept.
            StoreFailed: If the disk failed; nothing may be acknowledged.
        """
        if self._waiters is not None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error is None:
            return self._result
        if isinstance(self._error, StoreError):
            # A copy for each caller: raising one object in many tasks mixes their tracebacks.
            raise type(self._error)(str(self._error)) from self._error
        raise self._error

    def resolve(self, result: Result) -> None:
        """Answer with a result, after calling `on_commit` with it."""
        self._result = result
        if self._on_commit:
            self._on_commit(result)
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self._error = error
        self._wake()

    def apply(self, raw: sqlite3.Connection) -> Result:
        """Run the change, on the writer's thread, inside a transaction."""
        return self._change(raw)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():  # a caller that was cancelled
                waiter.set_result(None)
