"""Orderly shutdown: idle waits end at once, work in progress may finish."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class ShutdownSignal:
    """A request to shut down that ends every wait inside `interruptible`.

    Attributes:
        is_requested: Whether it was sent; it is never taken back.
    """

    def __init__(self) -> None:
        self._scopes: dict[anyio.CancelScope, None] = {}  # a dict keeps order: runs can be replayed
        self.is_requested = False

    def request(self) -> None:
        """End every idle wait, now and from now on."""
        self.is_requested = True
        for scope in self._scopes:
            scope.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Run the body until it ends or the request comes; `is_requested` tells which."""
        with anyio.CancelScope() as scope:
            self._scopes[scope] = None
            if self.is_requested:
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.pop(scope, None)
