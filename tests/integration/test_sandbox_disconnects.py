"""A client's disconnect is no error of the stand-in: nothing is logged, nothing is raised."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import orjson
import pytest
from aiohttp import ClientSession, encode_basic_auth, web
from anyio.abc import SocketAttribute, SocketStream
from yarl import URL

from relay.sandbox.cohorts.files import FileShape, UserRange
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.common.listener import running
from relay.sandbox.onesignal.export_files import SubscriberRange
from relay.sandbox.options import (
    DEFAULT_API_KEY,
    DEFAULT_APP_ID,
    DEFAULT_ONESIGNAL_KEY,
    DEFAULT_SECRET_KEY,
    SandboxOptions,
)
from relay.sandbox.server import Sandbox

ROWS = 400_000
"""More than the buffers of both sockets hold."""

KEYS = encode_basic_auth(DEFAULT_API_KEY, DEFAULT_SECRET_KEY)
RESET = struct.pack("ii", 1, 0)


@asynccontextmanager
async def quiet_sandbox(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[Sandbox, URL]]:
    """Run a sandbox, asserting that it served every request to its end silently."""
    sandbox = Sandbox(SandboxOptions())
    with anyio.fail_after(20):
        async with running(sandbox.app) as url:
            before = asyncio.all_tasks()
            yield sandbox, url
            while asyncio.all_tasks() - before:
                await anyio.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == []


async def ask(url: URL, method: str = "GET", headers: str = "", body: bytes = b"") -> SocketStream:
    """Send a request and return its connection."""
    assert url.host is not None
    assert url.port is not None
    stream = await anyio.connect_tcp(url.host, url.port)
    head = f"{method} {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host}\r\n{headers}\r\n"
    await stream.send(head.encode() + body)
    return stream


async def disconnect(stream: SocketStream, *, hard: bool) -> None:
    """Close a connection that still has bytes to read, with a reset if `hard`."""
    if hard:
        raw = stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    await stream.aclose()


async def file_path(sandbox: Sandbox, url: URL, shape: FileShape) -> URL:
    """Return the path of a large cohort's file."""
    sandbox.cohorts.put(
        StandInCohort(id="c", user_ids=UserRange("user-", 0, ROWS), shape=shape, empty_ids=1)
    )
    sandbox.cohorts.conditions.job.polls = 0
    headers = {"Authorization": KEYS}
    async with (
        ClientSession(headers=headers) as session,
        session.get(url / "api/5/cohorts/request/c") as response,
    ):
        request_id = orjson.loads(await response.read())["request_id"]
    return url / f"api/5/cohorts/request/{request_id}/file"


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        (FileShape(encoding="plain"), None),
        (FileShape(), None),
        (FileShape(encoding="plain", cut="length"), None),
        (FileShape(encoding="plain", cut="chunked"), None),
        (FileShape(encoding="plain", max_rows=1_000), "drip"),
        (FileShape(encoding="plain"), "slow"),
    ],
)
async def test_an_abandoned_download_ends_quietly(
    shape: FileShape, fault: str | None, caplog: pytest.LogCaptureFixture, *, hard: bool
) -> None:
    """Whole, cut, late or dripping: the client leaves before or after the first bytes."""
    async with quiet_sandbox(caplog) as (sandbox, url):
        sandbox.cohorts.conditions.delivery = "inline"
        file = await file_path(sandbox, url, shape)
        if fault is not None:
            sandbox.cohorts.faults.add(fault, operation="file", delay_s=0.001)
        stream = await ask(file, headers=f"Authorization: {KEYS}\r\n")
        if fault != "slow":
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await disconnect(stream, hard=hard)


async def test_a_link_that_is_not_read_to_its_end_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second origin behaves like the first."""
    async with quiet_sandbox(caplog) as (sandbox, url):
        file = await file_path(sandbox, url, FileShape(encoding="plain"))
        async with (
            ClientSession(headers={"Authorization": KEYS}) as session,
            session.get(file, allow_redirects=False) as response,
        ):
            link = URL(response.headers["Location"])
        stream = await ask(link)
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await disconnect(stream, hard=True)


async def test_an_export_that_is_not_read_to_its_end_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OneSignal's file is streamed too."""
    async with quiet_sandbox(caplog) as (sandbox, url):
        sandbox.exports.put(SubscriberRange("user-", 0, ROWS))
        sandbox.exports.conditions.polls = 0
        key = {"Authorization": f"Key {DEFAULT_ONESIGNAL_KEY}"}
        order = url / "players/csv_export" % {"app_id": DEFAULT_APP_ID}
        async with ClientSession(headers=key) as session, session.post(order) as response:
            link = URL(orjson.loads(await response.read())["csv_file_url"])
        stream = await ask(link)
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await disconnect(stream, hard=True)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "2/httpapi",
        "batch",
        f"players/csv_export?app_id={DEFAULT_APP_ID}",
        "_sandbox/amplitude/faults",
        "_sandbox/cohorts/conditions",
    ],
)
async def test_a_body_that_is_never_whole_ends_quietly(
    path: str, caplog: pytest.LogCaptureFixture, *, hard: bool
) -> None:
    """The client leaves while it uploads."""
    async with quiet_sandbox(caplog) as (_, url):
        target = url.join(URL(path))
        stream = await ask(target, "POST", "Content-Length: 1000\r\n", b'{"api_key":')
        await anyio.wait_all_tasks_blocked()
        await disconnect(stream, hard=hard)


@pytest.mark.parametrize("fault", ["slow", "hang", "stored_slow", "200_cut", "stored_200_cut"])
async def test_an_abandoned_response_ends_quietly(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client of an upload gave up, whatever the response would be."""
    async with quiet_sandbox(caplog) as (sandbox, url):
        sandbox.amplitude.faults.add(fault, delay_s=0.05)
        upload = orjson.dumps(
            {
                "api_key": DEFAULT_API_KEY,
                "events": [{"event_type": "x", "user_id": "user-1", "insert_id": "i-1"}],
            }
        )
        head = f"Content-Length: {len(upload)}\r\n"
        stream = await ask(url / "2/httpapi", "POST", head, upload)
        if fault.endswith("hang"):
            await sandbox.amplitude.ledger.wait_until(lambda ledger: ledger.total_requests == 1)
        await disconnect(stream, hard=True)
        sandbox.amplitude.faults.clear()


async def test_an_error_of_its_own_is_not_taken_for_a_disconnect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While the client is connected, a broken connection is the stand-in's own error."""

    async def fail(_request: web.Request) -> web.Response:
        raise ConnectionResetError("of another connection")

    app = web.Application()
    app.router.add_get("/", fail)
    with anyio.fail_after(20):
        async with running(app) as url, ClientSession() as session, session.get(url) as response:
            assert response.status == 500
    assert [record.levelname for record in caplog.records] == ["ERROR"]
