"""Amplitude's cohorts API over real sockets: requests sent, and the outcome of any response."""

import gzip
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import orjson
import pytest
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, abc, web

from relay.amplitude.cohort_list import Usage
from relay.amplitude.cohorts_api import MAX_ANSWER_BYTES, MAX_AT_ONCE, CohortsApi, CohortsTarget
from relay.clock import SystemClock
from relay.errors import (
    FileRejected,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnknown,
)
from relay.upstream.gunzip import PIECE_BYTES

KEY, SECRET = "0123456789abcdef", "fedcba9876543210"
BASIC = "Basic " + b64encode(f"{KEY}:{SECRET}".encode()).decode()
FILE = gzip.compress(b'"amplitude_id","user_id"\n"1","ada"\n')
WRONG_PAIR = (
    b'{"error":{"http_code":403,"type":"unspecified",'
    b'"metadata":{"details":"Invalid API/Secret Key combination"}}}'
)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class ReceivedRequest:
    """A request that a server received."""

    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@asynccontextmanager
async def _serving(answer: Answer) -> AsyncIterator[tuple[str, ReceivedRequest]]:
    heard = ReceivedRequest()

    async def listen(request: web.Request) -> web.StreamResponse:
        heard.paths.append(request.raw_path)
        heard.headers.append(dict(request.headers))
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
async def _api(url: str, timeout_s: float = 5.0) -> AsyncIterator[CohortsApi]:
    target = CohortsTarget(url, KEY, SECRET, timeout_s)
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        with anyio.fail_after(10):
            yield CohortsApi(session, target, SystemClock())


@asynccontextmanager
async def _reading(
    answer: Answer, timeout_s: float = 5.0
) -> AsyncIterator[tuple[CohortsApi, ReceivedRequest]]:
    async with _serving(answer) as (url, heard), _api(url, timeout_s) as api:
        yield api, heard


def _answering(status: int, body: object = b"", headers: dict[str, str] | None = None) -> Answer:
    data = body if isinstance(body, bytes) else orjson.dumps(body)

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=data, headers=headers)

    return answer


async def _error(answer: Answer, timeout_s: float = 5.0) -> UpstreamError:
    """Request an export; return the error."""
    async with _reading(answer, timeout_s) as (api, _):
        with pytest.raises(UpstreamError) as caught:
            await api.request_export("c1")
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    return caught.value


async def _read_file(api: CohortsApi, request_id: str = "r1") -> bytes:
    async with api.open_file(request_id) as chunks:
        return b"".join([chunk async for chunk in chunks])


def test_a_target_shows_no_key() -> None:
    """It may be logged."""
    shown = repr(CohortsTarget("http://a", KEY, SECRET, 1.0))
    assert shown == "CohortsTarget(http://a)"


async def test_the_list_is_asked_for_with_the_keys() -> None:
    """With Basic authentication, at the documented path."""
    body = {"cohorts": [{"id": "c1", "name": "Paying", "size": 5, "lastComputed": 1679440233}]}
    async with _reading(_answering(200, body)) as (api, heard):
        (cohort,) = await api.list_cohorts()
    assert (cohort.id, cohort.size, cohort.last_computed_at) == ("c1", 5, 1_679_440_233_000)
    assert heard.paths == ["/api/3/cohorts"]
    assert heard.headers[0]["Authorization"] == BASIC


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"", b"{}", b'{"cohorts":'])
async def test_an_invalid_list_is_no_empty_list(body: bytes) -> None:
    """Cohorts do not vanish because something else answered."""
    async with _reading(_answering(200, body)) as (api, _):
        with pytest.raises(UpstreamUnavailable):
            await api.list_cohorts()


async def test_an_endless_list_is_not_read_to_its_end() -> None:
    """Memory is bounded."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(MAX_ANSWER_BYTES // 1_048_576 + 1):
            await response.write(b" " * 1_048_576)
        return response

    async with _reading(answer) as (api, _):
        with pytest.raises(UpstreamUnavailable, match="more than"):
            await api.list_cohorts()


@pytest.mark.parametrize("status", [202, 200])
@pytest.mark.parametrize(("request_id", "expected"), [("a/b", "a/b"), (42, "42")])
async def test_an_export_is_known_by_its_request(
    status: int, request_id: object, expected: str
) -> None:
    """Amplitude documents 202; 200 has been observed."""
    body = {"request_id": request_id, "cohort_id": "c1"}
    async with _reading(_answering(status, body)) as (api, heard):
        assert await api.request_export("c1") == expected
    assert heard.paths == ["/api/5/cohorts/request/c1"]


@pytest.mark.parametrize("body", [b"<html>", b"", b"{}", b"[]", b'{"request_id":null}'])
async def test_an_export_without_an_id_is_invalid(body: bytes) -> None:
    """It could never be polled."""
    assert isinstance(await _error(_answering(202, body)), UpstreamUnavailable)


async def test_ids_are_escaped_in_paths() -> None:
    """An id is arbitrary text and names one thing at one path."""
    body = {"request_id": "r", "cohorts": [], "async_status": "JOB COMPLETED"}
    async with _reading(_answering(200, body)) as (api, heard):
        await api.request_export("a/b?c#d %e")
        await api.is_export_ready("a/\u00e9")
        await _read_file(api, "a/b")
    assert heard.paths == [
        "/api/5/cohorts/request/a%2Fb%3Fc%23d%20%25e",
        "/api/5/cohorts/request-status/a%2F%C3%A9",
        "/api/5/cohorts/request/a%2Fb/file",
    ]


@pytest.mark.parametrize(
    ("status", "body", "is_ready"),
    [
        (202, b'{"async_status":"JOB INPROGRESS"}', False),
        (202, b'{"async_status":"JOB COMPLETED"}', False),
        (202, b"", False),
        (200, b'{"async_status":"JOB COMPLETED"}', True),
        (200, b'{"request_id":"r1"}', True),
        (200, b'{"async_status":"JOB INPROGRESS"}', False),
        (200, b'{"async_status":"Job In Progress"}', False),
        (200, b'{"async_status":' + b"[" * 1_000 + b"]" * 1_000 + b"}", True),
    ],
)
async def test_the_status_decides_whether_an_export_is_done(
    status: int,
    body: bytes,
    is_ready: bool,  # noqa: FBT001
) -> None:
    """Amplitude's own client checks only the status; the body can only delay."""
    async with _reading(_answering(status, body)) as (api, _):
        assert await api.is_export_ready("r1") is is_ready


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]"])
async def test_an_export_is_not_done_because_a_proxy_says_ok(body: bytes) -> None:
    """The next response would be an empty file."""
    async with _reading(_answering(200, body)) as (api, _):
        with pytest.raises(UpstreamUnavailable):
            await api.is_export_ready("r1")


async def test_an_export_that_is_gone_is_unknown() -> None:
    """Amplitude keeps them for a week."""
    async with _reading(_answering(404)) as (api, _):
        with pytest.raises(UpstreamUnknown):
            await api.is_export_ready("r1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((400, UpstreamRefused), (401, UpstreamRefused), (403, UpstreamRefused)),
        *((404, UpstreamUnknown), (410, UpstreamUnknown), (405, UpstreamRefused)),
        *((302, UpstreamUnavailable), (408, UpstreamUnavailable), (429, UpstreamBusy)),
        *((500, UpstreamUnavailable), (503, UpstreamUnavailable), (504, UpstreamUnavailable)),
    ],
)
@pytest.mark.parametrize(
    "body", [WRONG_PAIR, b"<html>no</html>", b"", b'{"error":"text"}', b'{"error":[1]}', b"5"]
)
async def test_each_status_says_who_can_act(
    status: int, kind: type[UpstreamError], body: bytes
) -> None:
    """Whatever the body is."""
    error = await _error(_answering(status, body, {"Location": "/x"} if status == 302 else None))
    assert type(error) is kind
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("amplitude.com", "amplitude.com is for AMPLITUDE_REGION=us"),
        ("analytics.eu.amplitude.com", "analytics.eu.amplitude.com is for AMPLITUDE_REGION=eu"),
        ("proxy.test", "see AMPLITUDE_REGION"),
    ],
)
async def test_refused_keys_have_two_causes(host: str, says: str) -> None:
    """An invalid pair, or a project in the other region; Amplitude's text tells which."""

    class Here(abc.AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[abc.ResolveResult]:
            return [
                abc.ResolveResult(
                    hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
                )
            ]

        async def close(self) -> None:
            pass

    async with (
        _serving(_answering(403, WRONG_PAIR)) as (url, _),
        ClientSession(connector=TCPConnector(resolver=Here())) as session,
    ):
        target = CohortsTarget(url.replace("127.0.0.1", host), KEY, SECRET, 5.0)
        with pytest.raises(UpstreamRefused) as caught:
            await CohortsApi(session, target, SystemClock()).list_cohorts()
    text = str(caught.value)
    assert says in text
    assert "Invalid API/Secret Key combination" in text
    assert "AMPLITUDE_API_KEY and AMPLITUDE_SECRET_KEY" in text


async def test_keys_in_amplitudes_words_are_not_repeated() -> None:
    """Its ingest API prints the key, so this one may too."""
    words = {"error": {"metadata": {"details": f"Bad {KEY} and {SECRET}"}}}
    assert "Bad [key] and [key]" in str(await _error(_answering(403, words)))
    assert "a b" in str(await _error(_answering(400, {"error": {"message": "a\n b"}})))
    assert "plain" in str(await _error(_answering(400, {"error": "plain"})))


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_passed_on(status: int) -> None:
    """Amplitude does not document Retry-After, but a present one counts."""
    error = await _error(_answering(status, b"", {"Retry-After": "17"}))
    assert isinstance(error, UpstreamUnavailable)
    assert error.retry_after_s == 17.0
    quiet = await _error(_answering(status))
    assert isinstance(quiet, UpstreamUnavailable)
    assert quiet.retry_after_s is None


async def test_too_many_requests_names_both_limits() -> None:
    """The two limits are not documented apart; Amplitude's text may tell."""
    text = str(await _error(_answering(429, {"error": {"message": "5 concurrent"}})))
    assert "too many requests, or the month's quota" in text
    assert "5 concurrent" in text


async def test_silence_times_out() -> None:
    """A request never blocks longer than its timeout."""

    async def answer(_: web.Request) -> web.StreamResponse:
        await anyio.sleep_forever()
        raise AssertionError

    error = await _error(answer, timeout_s=0.1)
    assert isinstance(error, UpstreamUnavailable)
    assert "0.1 s" in str(error)


async def test_a_closed_port_is_unavailable() -> None:
    """It may be open later."""
    async with _serving(_answering(200)) as (url, _):
        pass
    async with _api(url) as api:
        with pytest.raises(UpstreamUnavailable):
            await api.list_cohorts()
        with pytest.raises(UpstreamUnavailable):
            await _read_file(api)


async def test_a_small_file_comes_raw_from_amplitude() -> None:
    """The reader decompresses, and stops bombs; the keys were sent along."""
    answer = _answering(200, FILE, {"Content-Encoding": "gzip"})
    async with _reading(answer) as (api, heard):
        assert await _read_file(api) == FILE
    assert heard.headers[0]["Authorization"] == BASIC
    assert heard.headers[0]["Accept-Encoding"] == "gzip"


async def test_pieces_are_small() -> None:
    """A file is never whole in memory."""
    data = bytes(1_000_000)
    async with _reading(_answering(200, data)) as (api, _), api.open_file("r1") as chunks:
        sizes = [len(chunk) async for chunk in chunks]
    assert sum(sizes) == len(data)
    assert max(sizes) <= PIECE_BYTES


SIGNED = "/bucket/a%2Fb.csv.gz?X-Amz-Signature=%2b%2F+~=&X-Amz-Expires=60"


async def test_a_large_file_comes_from_storage_without_the_keys() -> None:
    """Storage rejects double authentication, and must not see the keys."""
    async with (
        _serving(_answering(200, FILE)) as (storage, heard_there),
        _reading(_answering(302, b"", {"Location": storage + SIGNED})) as (api, heard),
    ):
        assert await _read_file(api) == FILE
    assert heard.headers[0]["Authorization"] == BASIC
    assert heard_there.paths == [SIGNED]
    assert "Authorization" not in heard_there.headers[0]
    assert "Cookie" not in heard_there.headers[0]


async def test_a_link_to_amplitude_itself_is_followed_without_the_keys_too() -> None:
    """A link is its own credential."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/here":
            return web.Response(body=FILE)
        raise web.HTTPFound("/here?a=1")

    async with _reading(answer) as (api, heard):
        assert await _read_file(api) == FILE
    assert heard.paths[-1] == "/here?a=1"
    assert "Authorization" not in heard.headers[-1]


@pytest.mark.parametrize("status", [403, 404])
async def test_an_expired_link_is_renewed_once(status: int) -> None:
    """A link lives for a minute, which a busy machine may miss; never twice."""
    first = [status]

    async def store(_: web.Request) -> web.StreamResponse:
        return web.Response(status=first.pop() if first else 200, body=FILE)

    async with (
        _serving(store) as (storage, heard_there),
        _reading(_answering(302, b"", {"Location": storage})) as (api, heard),
    ):
        assert await _read_file(api) == FILE
        assert (len(heard.paths), len(heard_there.paths)) == (2, 2)
        first += [status, status]
        with pytest.raises(UpstreamUnavailable, match="expired"):
            await _read_file(api)
        assert (len(heard.paths), len(heard_there.paths)) == (4, 4)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 500, 503, 206])
async def test_storage_that_does_anything_else_is_unavailable(status: int) -> None:
    """A further redirect could lead anywhere."""
    headers = {"Location": "http://127.0.0.1:1/"}
    async with (
        _serving(_answering(status, b"", headers)) as (storage, heard_there),
        _reading(_answering(302, b"", {"Location": storage})) as (api, _),
    ):
        with pytest.raises(UpstreamUnavailable):
            await _read_file(api)
        assert len(heard_there.paths) == 1


@pytest.mark.parametrize("location", [None, "", "file:///etc/passwd", "ftp://a.test/x", "http://["])
async def test_other_links_are_not_followed(location: str | None) -> None:
    """Only http and https are."""
    headers = None if location is None else {"Location": location}
    async with _reading(_answering(302, b"", headers)) as (api, _):
        with pytest.raises(UpstreamUnavailable, match="no address"):
            await _read_file(api)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, UpstreamRefused), (404, UpstreamUnknown), (429, UpstreamBusy)],
)
async def test_amplitudes_own_403_for_a_file_is_like_any_other(
    status: int, kind: type[UpstreamError]
) -> None:
    """Only storage means "expired" by it."""
    async with _reading(_answering(status, WRONG_PAIR)) as (api, heard):
        with pytest.raises(kind, match="Invalid API/Secret Key"):
            await _read_file(api)
        assert len(heard.paths) == 1


def _cutting(*, is_chunked: bool) -> Answer:
    """Send half of a file and close the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = None if is_chunked else len(FILE)
        await response.prepare(request)
        await response.write(FILE[: len(FILE) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_truncated_file_is_rejected(
    is_chunked: bool,  # noqa: FBT001
    is_stored: bool,  # noqa: FBT001
) -> None:
    """The part may still be a valid table, of only some members."""
    cutting = _cutting(is_chunked=is_chunked)
    async with _serving(cutting) as (storage, _):
        answer = _answering(302, b"", {"Location": storage}) if is_stored else cutting
        async with _reading(answer) as (api, _):
            with pytest.raises(FileRejected) as caught:
                await _read_file(api)
    assert caught.value.reason == "truncated"


async def test_a_file_may_be_slow_but_not_stall() -> None:
    """A million members over a slow line may take time; silence may not."""
    is_slow = True

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(8 if is_slow else 1):
            await response.write(b"x")
            await anyio.sleep(0.1)
        if not is_slow:
            await anyio.sleep_forever()
        return response

    async with _reading(answer, timeout_s=0.4) as (api, _):
        assert await _read_file(api) == b"x" * 8
        is_slow = False
        with pytest.raises(UpstreamUnavailable, match=r"0\.4 s"):
            await _read_file(api)


async def test_errors_of_the_reader_are_not_amplitude_s() -> None:
    """A full disk must not look like a fault of Amplitude."""

    async def fail(api: CohortsApi) -> None:
        async with api.open_file("r1") as chunks:
            async for _ in chunks:
                raise OSError("disk")

    async with _reading(_answering(200, FILE)) as (api, _):
        with pytest.raises(OSError, match="disk"):
            await fail(api)
        assert await _read_file(api) == FILE


@dataclass
class HoldingServer:
    """A server that holds every request until released."""

    present: int = 0
    most: int = 0
    open: anyio.Event = field(default_factory=anyio.Event)
    is_full: anyio.Event = field(default_factory=anyio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Begin a file, or let it wait, until the door opens."""
        self.present += 1
        self.most = max(self.most, self.present)
        if self.present == MAX_AT_ONCE:
            self.is_full.set()
        response = web.StreamResponse()
        if request.path.endswith("/file"):
            await response.prepare(request)
            await response.write(b"x")
        await self.open.wait()
        self.present -= 1
        if not request.path.endswith("/file"):
            return web.json_response({"cohorts": []})
        return response


@pytest.mark.parametrize("is_file", [True, False])
async def test_no_more_than_five_requests_at_once(is_file: bool) -> None:  # noqa: FBT001
    """Amplitude rejects the sixth; a file counts while Amplitude sends it."""
    crowd = HoldingServer()
    async with _reading(crowd.answer) as (api, heard), anyio.create_task_group() as group:
        for _ in range(MAX_AT_ONCE + 3):
            group.start_soon(_read_file if is_file else _list, api)
        await crowd.is_full.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(heard.paths) == MAX_AT_ONCE
        crowd.open.set()
    assert len(heard.paths) == MAX_AT_ONCE + 3
    assert crowd.most == MAX_AT_ONCE


async def _list(api: CohortsApi) -> None:
    await api.list_cohorts()


async def test_files_in_storage_do_not_count() -> None:
    """The limit is Amplitude's, not that of the storage."""
    crowd = HoldingServer()

    async def answer(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{storage}/file")

    async with (
        _serving(crowd.answer) as (storage, heard_there),
        _reading(answer) as (api, _),
        anyio.create_task_group() as group,
    ):
        for _ in range(MAX_AT_ONCE + 3):
            group.start_soon(_read_file, api)
        while len(heard_there.paths) < MAX_AT_ONCE + 3:
            await anyio.sleep(0.01)
        crowd.open.set()


async def test_a_reader_that_leaves_frees_its_slot() -> None:
    """A slot is never lost, on cancellation or an early end."""
    crowd = HoldingServer()
    async with _reading(crowd.answer) as (api, heard):
        for _ in range(MAX_AT_ONCE + 1):
            async with api.open_file("r1") as chunks:
                async for _chunk in chunks:
                    break
        for _ in range(MAX_AT_ONCE + 1):
            with anyio.move_on_after(0.05):
                await _read_file(api)
        assert len(heard.paths) == 2 * (MAX_AT_ONCE + 1)


@pytest.mark.parametrize(
    ("status", "body", "usage"),
    [
        (200, b'{"rest_download":{"limit":500,"usage":3}}', Usage(500, 3)),
        (200, b"<html>", None),
        (404, b"", None),
        (403, WRONG_PAIR, None),
        (500, b'{"limit":500,"usage":3}', None),
    ],
)
async def test_the_usage_is_optional(status: int, body: bytes, usage: Usage | None) -> None:
    """The endpoint is new and hardly documented; nothing depends on it."""
    async with _reading(_answering(status, body)) as (api, heard):
        assert await api.read_usage() == usage
    assert heard.paths == ["/api/3/cohorts/usage"]


async def test_an_unreachable_server_gives_no_usage() -> None:
    """Not even a closed port is an error here."""
    async with _serving(_answering(200)) as (url, _):
        pass
    async with _api(url) as api:
        assert await api.read_usage() is None
