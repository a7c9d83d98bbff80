"""An Amplitude that counts numbered events by the million and misbehaves on a schedule."""

import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID

import anyio
from aiohttp import web

ANSWER = b'{"code":200,"events_ingested":1,"payload_size_bytes":1,"server_upload_time":1}'

NUMBERED = re.compile(rb'"insert_id":"00000000-0000-4000-8000-([0-9a-f]{12})"')

MISBEHAVIOURS = ("none", "503", "none", "429", "lost", "none", "slow", "reset", "none", "hang")
"""`lost` counts an upload and closes the connection without an answer."""

LONGEST_HANG_S = 60.0

_GZIP = 31


def name_of(number: int) -> str:
    """Return the id of an event, which holds its number."""
    return str(UUID(int=number | 0x4000 << 64 | 0x8000 << 48))


class CountingAmplitude:
    """Counts what arrives.

    Attributes:
        counts: Arrivals of each event, by number; 255 at most.
        uploads: Requests received.
        behaviour: How it answers now.
    """

    def __init__(self, events: int) -> None:
        self.counts = bytearray(events)
        self.uploads = 0
        self.behaviour = "none"

    async def misbehave(self, rng: Random, turn_s: float) -> None:
        """Change the behaviour now and then, until cancelled."""
        while True:
            for behaviour in MISBEHAVIOURS:
                self.behaviour = behaviour
                await anyio.sleep(rng.uniform(0.5, 1.5) * turn_s)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Accept uploads while the block runs; yield the URL."""
        app = web.Application(client_max_size=32 << 20)
        app.router.add_post("/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.uploads += 1
        body = await request.read()
        behaviour = self.behaviour
        if behaviour in ("503", "429"):
            return web.Response(status=int(behaviour), text="not now")
        if behaviour == "hang":
            await anyio.sleep(LONGEST_HANG_S)
        if behaviour == "slow":
            await anyio.sleep(0.3)
        if behaviour != "reset":
            self._count(body)
        if behaviour in ("reset", "lost") and request.transport:
            request.transport.abort()
        return web.Response(body=ANSWER, content_type="application/json")

    def _count(self, body: bytes) -> None:
        if body[:2] == b"\x1f\x8b":
            body = zlib.decompress(body, _GZIP)
        for found in NUMBERED.findall(body):
            number = int(found, 16)
            self.counts[number] = min(255, self.counts[number] + 1)
