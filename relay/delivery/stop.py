"""Ending in order: idle waits end at once, what is under way may finish."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Stop:
    """A request to stop, seen by every task that waits inside `interruptible`.

    Attributes:
        is_requested: Whether it was made.
    """

    def __init__(self) -> None:
        self._scopes: dict[anyio.CancelScope, None] = {}  # in order: a run can be repeated
        self.is_requested = False

    def request(self) -> None:
        """End every idle wait, now and from now on."""
        self.is_requested = True
        for scope in self._scopes:
            scope.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Run the body until it ends or a stop is requested; see `is_requested` after it."""
        with anyio.CancelScope() as scope:
            self._scopes[scope] = None
            if self.is_requested:
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.pop(scope, None)
