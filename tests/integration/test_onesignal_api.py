"""OneSignal's export API over real sockets: requests sent, and the outcome of any response."""

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
class ReceivedRequest:
    """A request that a server received."""

    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def _serving(answer: Answer) -> AsyncIterator[tuple[str, ReceivedRequest]]:
    heard = ReceivedRequest()

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
    """Request an export; return the error."""
    async with _serving(_answering(status, body, headers)) as (url, _), _api(url) as api:
        with pytest.raises(UpstreamError) as caught:
            await api.request_export()
    assert KEY not in str(caught.value)
    return caught.value


async def _read_file(api: ExportApi, url: str) -> bytes:
    async with api.open_file(url) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def _file_error(answer: Answer, path: str = SECRET_PATH) -> Exception:
    """Request a file; return the error, which never shows its URL."""
    async with _serving(answer) as (url, _), _api(url, timeout_s=0.5) as api:
        with pytest.raises((UpstreamUnavailable, FileRejected)) as caught:
            await _read_file(api, url + path)
    assert "csv_exports" not in str(caught.value)
    assert "users_" not in str(caught.value)
    return caught.value


def test_a_target_shows_no_key() -> None:
    """It may be logged."""
    assert repr(ExportTarget("http://a", APP_ID, KEY, 1.0)) == f"ExportTarget(http://a, {APP_ID})"


@pytest.mark.parametrize(
    ("api_key", "header"),
    [(KEY, f"Key {KEY}"), ("NGEwMGZmMjItY2NkNy0xMWUz", "Basic NGEwMGZmMjItY2NkNy0xMWUz")],
)
async def test_an_export_of_all_subscriptions_is_asked_for(api_key: str, header: str) -> None:
    """Without a filter it includes unsubscribed ones; old and new keys work."""
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
async def test_a_response_without_a_file_is_retried(body: object) -> None:
    """A busy OneSignal has been seen to do this."""
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
    """Three API generations reject keys in three ways; only an operator can help."""
    error = await _error(status, body)
    assert isinstance(error, UpstreamRefused)
    assert "ONESIGNAL_API_KEY" in str(error)


@pytest.mark.parametrize("status", [400, 403, 409, 429])
@pytest.mark.parametrize("errors", [[RUNNING], RUNNING, {"base": RUNNING}, [{"title": RUNNING}]])
async def test_another_export_in_progress_is_recognised(status: int, errors: object) -> None:
    """Its status is undocumented; the directory has to wait for minutes then."""
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


async def test_retry_after_is_passed_on() -> None:
    """OneSignal documents it in seconds."""
    error = await _error(429, b"", {"Retry-After": "17"})
    assert isinstance(error, UpstreamUnavailable)
    assert error.retry_after_s == 17.0


async def test_onesignals_words_are_repeated_without_the_key() -> None:
    """They say what is wrong and might quote the request."""
    assert "no such [key] app" in str(await _error(400, {"errors": [f"no such {KEY}", "app"]}))


async def test_a_closed_port_is_unavailable() -> None:
    """It may be open later."""
    async with _serving(_answering(200)) as (url, _):
        pass
    async with _api(url) as api:
        with pytest.raises(UpstreamUnavailable):
            await api.request_export()
        with pytest.raises(UpstreamUnavailable) as caught:
            await _read_file(api, url + SECRET_PATH)
    assert "csv_exports" not in str(caught.value)


async def test_a_file_comes_raw_from_another_host_without_the_key() -> None:
    """Its URL is the only credential, used exactly."""
    answer = _answering(200, FILE, {"Content-Encoding": "gzip"})
    async with _serving(answer) as (storage, heard), _api("http://api.test") as api:
        assert await _read_file(api, storage + SECRET_PATH) == FILE
    assert heard.paths == [f"GET {SECRET_PATH}"]
    assert "Authorization" not in heard.headers[0]
    assert "Cookie" not in heard.headers[0]


@pytest.mark.parametrize("status", [403, 404])
async def test_a_file_that_is_not_ready_is_waited_for(status: int) -> None:
    """Storage answers with either status, in XML."""
    assert isinstance(await _file_error(_answering(status, MISSING.encode())), ExportNotReady)


@pytest.mark.parametrize("status", [206, 400, 401, 429, 500, 503])
async def test_storage_that_does_anything_else_is_unavailable(status: int) -> None:
    """Other answers do not mean that the file is still being made."""
    assert type(await _file_error(_answering(status))) is UpstreamUnavailable


async def test_a_file_may_have_moved_once() -> None:
    """The documented host is OneSignal's; files have been seen in storage elsewhere."""
    async with _serving(_answering(200, FILE)) as (storage, heard_there):
        moved = _answering(302, b"", {"Location": storage + "/x%2Fy"})
        async with _serving(moved) as (url, heard), _api(url) as api:
            assert await _read_file(api, url + SECRET_PATH) == FILE
    assert heard_there.paths == ["GET /x%2Fy"]
    assert "Authorization" not in heard.headers[0]
    assert "Authorization" not in heard_there.headers[0]


@pytest.mark.parametrize("location", [None, "/again", "file:///etc/passwd", "http://["])
async def test_repeated_redirects_are_not_followed(location: str | None) -> None:
    """One redirect is fine, more are a trap."""
    headers = None if location is None else {"Location": location}
    error = await _file_error(_answering(302, b"", headers))
    assert "no address" in str(error)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "ftp://a.test/users_", "http://["])
async def test_other_schemes_are_not_fetched(url: str) -> None:
    """Only http and https are."""
    async with _api("http://api.test") as api:
        with pytest.raises(UpstreamUnavailable, match="no address"):
            await _read_file(api, url)


async def test_a_truncated_file_is_rejected() -> None:
    """The part may still be a valid table, of only some subscriptions."""

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


async def test_a_stalled_file_times_out() -> None:
    """Storage may hang like any server."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(FILE[:5])
        await anyio.sleep_forever()
        raise AssertionError

    assert type(await _file_error(answer)) is UpstreamUnavailable
