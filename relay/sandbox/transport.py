"""Misbehaviour below HTTP: resets, cut answers and waits."""

import socket
import struct

import anyio
from aiohttp import web

from relay.sandbox.answers import Answer

_LINGER_ZERO = struct.pack("ii", 1, 0)


def respond(answer: Answer) -> web.Response:
    """Return an answer as aiohttp sends it."""
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers=answer.headers,
    )


def reset(request: web.Request) -> web.Response:
    """Break the connection with a TCP reset; what is returned is never sent."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    return web.Response(status=500)


async def send_cut(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Send the head and half of the body, then close the connection."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_type = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def linger(seconds: float | None, *until: anyio.Event) -> None:
    """Wait for `seconds` (None = for ever), or until one of the events is set."""
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for event in until:
                tasks.start_soon(_cancel_after, event, tasks.cancel_scope)


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
