"""OneSignal's export over real sockets: what goes out, and what any answer becomes."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import orjson
import pytest
from aiohttp import ClientSession, DummyCookieJar, web

from relay.errors import (
    ExportBusy,
    ExportNotReady,
    FileRejected,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnknown,
)
from relay.onesignal.export_api import ExportApi, ExportTarget

APP_ID = "5eb5a37e-b458-11e3-ac11-000c2940e62c"
KEY = "os_v2_app_" + "a7" * 51 + "b"
FILE = gzip.compress(b"id,device_type,invalid_identifier,external_user_id\ns1,5,f,u1\n")
SECRET_PATH = "/csv_exports/5eb5a37e/users_0123456789abcdef_2026-11-24.csv.gz?a=%2b+b"
DENIED = (
    "Access denied.  Please include an 'Authorization: ...' header with a valid API key "
    "(https://documentation.onesignal.com/docs/en/keys-and-ids#api-keys)."
)
RUNNING = (
    "User already running another CSV export. Please wait until your other CSV exporter "
    "finishes and try again."
)
MISSING = "<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Heard:
    """What a server was asked."""

    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def _serving(answer: Answer) -> AsyncIterator[tuple[str, Heard]]:
    heard = Heard()

    async def listen(request: web.Request) -> web.StreamResponse:
        heard.paths.append(f"{request.method} {request.raw_path}")
        heard.headers.append(dict(request.headers))
        heard.bodies.append(await request.read())
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", listen)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", heard
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _api(url: str, api_key: str = KEY, timeout_s: float = 5.0) -> AsyncIterator[ExportApi]:
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        with anyio.fail_after(10):
            yield ExportApi(session, ExportTarget(url, APP_ID, api_key, timeout_s))


def _answering(status: int, body: object = b"", headers: dict[str, str] | None = None) -> Answer:
    data = body if isinstance(body, bytes) else orjson.dumps(body)

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=data, headers=headers)

    return answer


async def _error(status: int, body: object, headers: dict[str, str] | None = None) -> UpstreamError:
    """Ask for an export; return what becomes of the answer."""
    async with _serving(_answering(status, body, headers)) as (url, _), _api(url) as api:
        with pytest.raises(UpstreamError) as caught:
            await api.request_export()
    assert KEY not in str(caught.value)
    return caught.value


async def _read_file(api: ExportApi, url: str) -> bytes:
    async with api.open_file(url) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def _file_error(answer: Answer, path: str = SECRET_PATH) -> Exception:
    """Ask for a file; return what becomes of the answer, which never tells where it was."""
    async with _serving(answer) as (url, _), _api(url, timeout_s=0.5) as api:
        with pytest.raises((UpstreamUnavailable, FileRejected)) as caught:
            await _read_file(api, url + path)
    assert "csv_exports" not in str(caught.value)
    assert "users_" not in str(caught.value)
    return caught.value


def test_a_target_shows_no_key() -> None:
    """It may end in a log."""
    assert repr(ExportTarget("http://a", APP_ID, KEY, 1.0)) == f"ExportTarget(http://a, {APP_ID})"


@pytest.mark.parametrize(
    ("api_key", "header"),
    [(KEY, f"Key {KEY}"), ("NGEwMGZmMjItY2NkNy0xMWUz", "Basic NGEwMGZmMjItY2NkNy0xMWUz")],
)
async def test_an_export_of_all_subscriptions_is_asked_for(api_key: str, header: str) -> None:
    """Without a filter it holds the unsubscribed too; keys of either age work."""
    there = "https://onesignal.com/csv_exports/a/users_b.csv.gz"
    answer = _answering(200, {"csv_file_url": there})
    async with _serving(answer) as (url, heard), _api(url, api_key) as api:
        assert await api.request_export() == there
    assert heard.paths == [f"POST /players/csv_export?app_id={APP_ID}"]
    assert heard.headers[0]["Authorization"] == header
    assert heard.headers[0]["Content-Type"].startswith("application/json")
    assert orjson.loads(heard.bodies[0]) == {
        "extra_fields": ["external_user_id", "notification_types"]
    }


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b"[]", b"{}", {"success": False}, {"csv_file_url": None}),
        *({"csv_file_url": ""}, {"csv_file_url": "file:///etc/passwd"}, {"csv_file_url": 5}),
    ],
)
async def test_an_answer_without_a_file_is_tried_again(body: object) -> None:
    """It has been seen of a busy OneSignal."""
    assert type(await _error(200, body)) is UpstreamUnavailable


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, {"errors": [DENIED]}),
        (401, {"errors": [{"code": "auth-1", "title": "This operation requires it"}]}),
        (401, b""),
        (400, {"errors": ["Please include a case-sensitive header of Authorization"]}),
    ],
)
async def test_a_refused_key_is_named_by_its_setting(status: int, body: object) -> None:
    """Three generations of the API say no in three ways; only a person can help."""
    error = await _error(status, body)
    assert isinstance(error, UpstreamRefused)
    assert "ONESIGNAL_API_KEY" in str(error)


@pytest.mark.parametrize("status", [400, 403, 409, 429])
@pytest.mark.parametrize("errors", [[RUNNING], RUNNING, {"base": RUNNING}, [{"title": RUNNING}]])
async def test_another_export_under_way_is_recognised(status: int, errors: object) -> None:
    """Nobody wrote down with which status; a directory has to wait for minutes then."""
    error = await _error(status, {"errors": errors})
    assert isinstance(error, ExportBusy)
    assert error.retry_after_s is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((400, UpstreamRefused), (402, UpstreamRefused), (404, UpstreamUnknown)),
        *((408, UpstreamUnavailable), (429, UpstreamUnavailable), (302, UpstreamUnavailable)),
        *((500, UpstreamUnavailable), (503, UpstreamUnavailable), (524, UpstreamUnavailable)),
    ],
)
@pytest.mark.parametrize(
    "body", [{"errors": ["No"]}, {"errors": [None, 5, {}]}, {"errors": {"a": []}}, b"", b"<x/>"]
)
async def test_each_status_says_who_can_act(
    status: int, kind: type[UpstreamError], body: object
) -> None:
    """Whatever the body is."""
    assert type(await _error(status, body)) is kind


async def test_a_wish_to_wait_is_passed_on() -> None:
    """OneSignal documents it in seconds."""
    error = await _error(429, b"", {"Retry-After": "17"})
    assert isinstance(error, UpstreamUnavailable)
    assert error.retry_after_s == 17.0


async def test_onesignals_words_are_repeated_without_the_key() -> None:
    """They tell what is wrong, and might quote what was sent."""
    assert "no such [key] app" in str(await _error(400, {"errors": [f"no such {KEY}", "app"]}))


async def test_a_closed_port_is_unavailable() -> None:
    """Tomorrow it may be open."""
    async with _serving(_answering(200)) as (url, _):
        pass
    async with _api(url) as api:
        with pytest.raises(UpstreamUnavailable):
            await api.request_export()
        with pytest.raises(UpstreamUnavailable) as caught:
            await _read_file(api, url + SECRET_PATH)
    assert "csv_exports" not in str(caught.value)


async def test_a_file_comes_raw_from_another_host_without_the_key() -> None:
    """The address is all it takes, letter for letter."""
    answer = _answering(200, FILE, {"Content-Encoding": "gzip"})
    async with _serving(answer) as (storage, heard), _api("http://api.test") as api:
        assert await _read_file(api, storage + SECRET_PATH) == FILE
    assert heard.paths == [f"GET {SECRET_PATH}"]
    assert "Authorization" not in heard.headers[0]
    assert "Cookie" not in heard.headers[0]


@pytest.mark.parametrize("status", [403, 404])
async def test_a_file_that_is_not_made_yet_is_waited_for(status: int) -> None:
    """Storage says so with either status, in XML."""
    assert isinstance(await _file_error(_answering(status, MISSING.encode())), ExportNotReady)


@pytest.mark.parametrize("status", [206, 400, 401, 429, 500, 503])
async def test_storage_that_does_anything_else_is_unavailable(status: int) -> None:
    """It is no sign that the file is still being made."""
    assert type(await _file_error(_answering(status))) is UpstreamUnavailable


async def test_a_file_may_have_moved_once() -> None:
    """The documented address is OneSignal's; files were seen in storage elsewhere."""
    async with _serving(_answering(200, FILE)) as (storage, heard_there):
        moved = _answering(302, b"", {"Location": storage + "/x%2Fy"})
        async with _serving(moved) as (url, heard), _api(url) as api:
            assert await _read_file(api, url + SECRET_PATH) == FILE
    assert heard_there.paths == ["GET /x%2Fy"]
    assert "Authorization" not in heard.headers[0]
    assert "Authorization" not in heard_there.headers[0]


@pytest.mark.parametrize("location", [None, "/again", "file:///etc/passwd", "http://["])
async def test_a_file_that_leads_on_and_on_is_left(location: str | None) -> None:
    """One step is help, more are a trap."""
    headers = None if location is None else {"Location": location}
    error = await _file_error(_answering(302, b"", headers))
    assert "no address" in str(error)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "ftp://a.test/users_", "http://["])
async def test_other_addresses_are_not_visited(url: str) -> None:
    """Only the web is."""
    async with _api("http://api.test") as api:
        with pytest.raises(UpstreamUnavailable, match="no address"):
            await _read_file(api, url)


async def test_a_file_of_which_less_comes_than_announced_is_rejected() -> None:
    """What came may still be a table, of some of the subscriptions."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(FILE)
        await response.prepare(request)
        await response.write(FILE[:-1])
        assert request.transport is not None
        request.transport.close()
        return response

    error = await _file_error(answer)
    assert isinstance(error, FileRejected)
    assert error.reason == "truncated"


async def test_a_file_that_stands_still_is_given_up() -> None:
    """Storage may hang like anything else."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(FILE[:5])
        await anyio.sleep_forever()
        raise AssertionError

    assert type(await _file_error(answer)) is UpstreamUnavailable
