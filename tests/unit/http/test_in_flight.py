"""A listener closes after its last response."""

import aiohttp
import anyio
import pytest
from aiohttp import web

from relay.http.server.listener import InFlightRequests, app_runner, counting, open_door
from tests.support.command_line import free_port


class Address:
    """Where the tests listen."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.port = free_port()


async def test_an_idle_door_closes_at_once() -> None:
    """Nothing is in flight."""
    with anyio.fail_after(1):
        await InFlightRequests().drain()


async def test_the_last_request_is_waited_for() -> None:
    """Including one that begins while others end, and one that fails."""
    in_flight = InFlightRequests()
    drained = anyio.Event()
    may_end = [anyio.Event(), anyio.Event()]

    async def drain() -> None:
        await in_flight.drain()
        drained.set()

    async def fail(number: int) -> None:
        with in_flight:
            await may_end[number].wait()
            raise ValueError("odd")

    async def request(number: int) -> None:
        with pytest.raises(ValueError, match="odd"):
            await fail(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request, 0)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(drain)
            tasks.start_soon(request, 1)
            await anyio.wait_all_tasks_blocked()
            may_end[0].set()
            await anyio.wait_all_tasks_blocked()
            assert not drained.is_set()
            may_end[1].set()
            await drained.wait()


async def test_connections_are_aborted_only_after_the_last_answer() -> None:
    """The socket closes first; requests in flight are answered."""
    in_flight = InFlightRequests()
    begun, may_end = anyio.Event(), anyio.Event()
    answers: list[tuple[int, str]] = []

    async def handle(_: web.Request) -> web.Response:
        begun.set()
        await may_end.wait()
        return web.Response(text="done")

    async def ask(url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            answers.append((answer.status, await answer.text()))

    async def drain() -> None:
        with pytest.raises(OSError, match="connect"):
            await anyio.connect_tcp(address.host, address.port)
        may_end.set()
        await in_flight.drain()

    app = web.Application(middlewares=[counting(in_flight)])
    app.router.add_get("/", handle)
    address = Address()
    with anyio.fail_after(10):
        async with (
            anyio.create_task_group() as tasks,
            open_door(app_runner(app), address, drain=drain) as port,
        ):
            tasks.start_soon(ask, f"http://127.0.0.1:{port}")
            await begun.wait()
    assert answers == [(200, "done")]
