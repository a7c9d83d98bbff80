"""The two servers relay is measured against and with.

`bare`: the cost of any aiohttp receiver: it reads a body, parses it and answers.
`sink`: accepts uploads as Amplitude would, as cheaply as possible.

    python tests/bench/servers.py bare|sink PORT
"""

import asyncio
import json
import sys

from aiohttp import web

ANSWER = json.dumps(
    {"code": 200, "events_ingested": 1, "payload_size_bytes": 1, "server_upload_time": 1}
).encode()


async def bare(request: web.Request) -> web.Response:
    """Read, parse, answer."""
    json.loads(await request.read())
    return web.Response(body=b'{"accepted":1}', content_type="application/json")


async def sink(request: web.Request) -> web.Response:
    """Read, answer as Amplitude does."""
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def main(name: str, port: int) -> None:
    """Serve until killed."""
    app = web.Application(client_max_size=32 << 20)
    app.router.add_post("/{path:.*}", {"bare": bare, "sink": sink}[name])
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
