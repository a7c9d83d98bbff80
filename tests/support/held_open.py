"""A context that is entered in one call of an event loop and left in another."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import anyio

Resource = TypeVar("Resource")


class HeldOpen(Generic[Resource]):
    """Holds a context open across the steps of a state machine, in its own task."""

    def __init__(self, context: AbstractAsyncContextManager[Resource]) -> None:
        self._context = context
        self._closing = anyio.Event()

    async def enter(self) -> Resource:
        """Enter the context and return its value."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Resource] = loop.create_future()
        self._host = loop.create_task(self._hold(opened))
        return await opened

    async def leave(self) -> None:
        """Exit the context and wait until it has closed."""
        self._closing.set()
        await self._host

    async def _hold(self, opened: asyncio.Future[Resource]) -> None:
        try:
            async with self._context as resource:
                opened.set_result(resource)
                await self._closing.wait()
        except BaseException as error:
            if not opened.done():
                opened.set_exception(error)
            raise
