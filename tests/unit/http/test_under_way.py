"""A door that closes behind the last request."""

import aiohttp
import anyio
import pytest
from aiohttp import web

from relay.http.server.in_flight import InFlightRequests, counting
from relay.http.server.listener import app_runner, open_door
from tests.support.command_line import free_port


class Address:
    """Where the tests listen."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.port = free_port()


async def test_nothing_under_way_is_not_waited_for() -> None:
    """An idle door closes at once."""
    with anyio.fail_after(1):
        await InFlightRequests().settle()


async def test_the_last_request_is_waited_for() -> None:
    """Also one that begins while others end, and one that fails."""
    under_way = InFlightRequests()
    settled = anyio.Event()
    may_end = [anyio.Event(), anyio.Event()]

    async def settle() -> None:
        await under_way.settle()
        settled.set()

    async def fail(number: int) -> None:
        with under_way:
            await may_end[number].wait()
            raise ValueError("odd")

    async def request(number: int) -> None:
        with pytest.raises(ValueError, match="odd"):
            await fail(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request, 0)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(settle)
            tasks.start_soon(request, 1)
            await anyio.wait_all_tasks_blocked()
            may_end[0].set()
            await anyio.wait_all_tasks_blocked()
            assert not settled.is_set()
            may_end[1].set()
            await settled.wait()


async def test_a_door_is_cut_only_behind_the_last_answer() -> None:
    """Its socket is closed before; who was inside is answered."""
    under_way = InFlightRequests()
    begun, may_end = anyio.Event(), anyio.Event()
    answers: list[tuple[int, str]] = []

    async def handle(_: web.Request) -> web.Response:
        begun.set()
        await may_end.wait()
        return web.Response(text="done")

    async def ask(url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            answers.append((answer.status, await answer.text()))

    async def settle() -> None:
        with pytest.raises(OSError, match="connect"):
            await anyio.connect_tcp(address.host, address.port)
        may_end.set()
        await under_way.settle()

    app = web.Application(middlewares=[counting(under_way)])
    app.router.add_get("/", handle)
    address = Address()
    with anyio.fail_after(10):
        async with (
            anyio.create_task_group() as tasks,
            open_door(app_runner(app), address, settle=settle) as port,
        ):
            tasks.start_soon(ask, f"http://127.0.0.1:{port}")
            await begun.wait()
    assert answers == [(200, "done")]
