"""Amplitude's upload API over real sockets: requests sent, and the outcome of any response."""

import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate

import anyio
import orjson
import pytest
from aiohttp import ClientSession, DummyCookieJar, web
from anyio.abc import SocketAttribute, SocketStream

from relay.amplitude.events_api import (
    GZIP_FROM_BYTES,
    MAX_ANSWER_BYTES,
    EventsApi,
    UploadTarget,
)
from relay.amplitude.judge import judge_upload
from relay.amplitude.verdicts import Halt, Retry, Settled, UploadReply
from relay.clock import SystemClock
from relay.delivery.batching import BatchLimits
from relay.upstream.client import MAX_RETRY_AFTER_S, parse_retry_after

KEY = "0123456789abcdef0123456789abcdef"
TARGET = UploadTarget(url="", upload="httpapi", api_key=KEY, timeout_s=5.0, gzip=True)
OK = b'{"code":200,"events_ingested":1,"payload_size_bytes":1,"server_upload_time":1}'
EVENT = b'{"event_type":"x","user_id":"\xc3\xa4","n":1.50}'


@dataclass
class ReceivedRequest:
    """A request that a server received."""

    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""

    @property
    def body(self) -> bytes:
        """The body, decompressed."""
        is_packed = self.headers.get("Content-Encoding") == "gzip"
        return gzip.decompress(self.raw) if is_packed else self.raw


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _uploading(
    answer: Answer, target: UploadTarget = TARGET
) -> AsyncIterator[tuple[EventsApi, list[ReceivedRequest]]]:
    """Serve `answer` on loopback and yield a client for it."""
    heard: list[ReceivedRequest] = []

    async def listen(request: web.Request) -> web.StreamResponse:
        heard.append(ReceivedRequest(request.path, dict(request.headers), await request.read()))
        return await answer(request)

    app = web.Application(client_max_size=32 << 20)
    app.router.add_route("*", "/{path:.*}", listen)
    runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with ClientSession(cookie_jar=DummyCookieJar()) as session:
            yield (
                EventsApi(session, replace(target, url=f"http://127.0.0.1:{port}"), SystemClock()),
                heard,
            )
    finally:
        await runner.cleanup()


async def _ok(_: web.Request) -> web.StreamResponse:
    return web.Response(body=OK, content_type="application/json")


def _answering(status: int, body: bytes = OK, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def _upload(answer: Answer, target: UploadTarget = TARGET) -> UploadReply:
    async with _uploading(answer, target) as (api, _):
        with anyio.fail_after(10):
            return await api.upload(EVENT)


async def _upload_raw(
    answer: bytes, *, is_cut: bool = False, timeout_s: float = 5.0
) -> UploadReply:
    """Upload to a server that writes `answer` unchanged and closes or resets the connection."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            received = b""
            while not received.endswith(b"]}"):
                received += await stream.receive()
            if answer:
                await stream.send(answer)
            if is_cut:
                raw = stream.extra(SocketAttribute.raw_socket)
                raw.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # closes with a reset

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as group, ClientSession() as session:
            group.start_soon(listener.serve, handle)
            target = replace(TARGET, url=f"http://127.0.0.1:{port}", timeout_s=timeout_s)
            with anyio.fail_after(10):
                reply = await EventsApi(session, target, SystemClock()).upload(EVENT)
            group.cancel_scope.cancel()
    return reply


@pytest.mark.parametrize(("upload", "path"), [("httpapi", "/2/httpapi"), ("batch", "/batch")])
async def test_the_body_is_the_envelope_around_the_stored_bytes(upload: str, path: str) -> None:
    """Event bytes are sent as stored, in an envelope without a timestamp."""
    async with _uploading(_ok, replace(TARGET, upload=upload)) as (api, heard):
        reply = await api.upload(EVENT + b"," + EVENT)
        assert reply == UploadReply(200, OK)
        assert heard[0].path == path
        assert heard[0].headers["Content-Type"] == "application/json"
        assert "Authorization" not in heard[0].headers
        envelope = b'{"api_key":"%b","options":{"min_id_length":1},"events":[%b,%b]}'
        assert heard[0].body == envelope % (KEY.encode(), EVENT, EVENT)


async def test_a_key_with_quotes_is_escaped() -> None:
    """For any key the envelope is JSON and the computed overhead is right."""
    key = 'k"e\\y\u00e9'
    async with _uploading(_ok, replace(TARGET, api_key=key)) as (api, heard):
        await api.upload(EVENT)
        assert orjson.loads(heard[0].body)["api_key"] == key
        assert api.overhead_bytes + len(EVENT) == len(heard[0].raw)


@pytest.mark.parametrize("is_over", [False, True])
async def test_bodies_from_two_kib_are_compressed(is_over: bool) -> None:  # noqa: FBT001
    """The threshold counts the whole body, and decompression gives the same bytes."""
    async with _uploading(_ok) as (api, heard):
        event = b'"%b"' % (b"x" * (GZIP_FROM_BYTES - api.overhead_bytes - 2 - (not is_over)))
        await api.upload(event)
        assert ("Content-Encoding" in heard[0].headers) is is_over
        assert len(heard[0].body) == GZIP_FROM_BYTES - (not is_over)
        assert heard[0].body.endswith(event + b"]}")


async def test_compression_can_be_switched_off() -> None:
    """Without gzip a large body is sent plain."""
    async with _uploading(_ok, replace(TARGET, gzip=False)) as (api, heard):
        await api.upload(b'"%b"' % (b"x" * 100_000))
        assert "Content-Encoding" not in heard[0].headers
        assert len(heard[0].raw) == api.overhead_bytes + 100_002


@pytest.mark.parametrize("events", [1, 2, 7, 40])
async def test_limits_count_what_is_really_sent(events: int) -> None:
    """Envelope, commas and events: exact to the byte."""
    async with _uploading(_ok, replace(TARGET, gzip=False)) as (api, heard):
        await api.upload(b",".join([EVENT] * events))
        sent_bytes, body_bytes = len(heard[0].raw), len(EVENT) * events
        exact = BatchLimits(events, sent_bytes, api.overhead_bytes)
        assert exact.admits(events, body_bytes)
        assert not replace(exact, max_bytes=sent_bytes - 1).admits(events, body_bytes)
        assert not replace(exact, max_events=events - 1).admits(events, body_bytes)


@pytest.mark.parametrize("status", [200, 400, 403, 413, 429, 500, 503])
async def test_status_and_body_come_back(status: int) -> None:
    """The reply is Amplitude's response, judged elsewhere."""
    assert await _upload(_answering(status, b"words")) == UploadReply(status, b"words")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """The key and the events go only to the configured host."""
    async with _uploading(_answering(status, b"", {"Location": "/elsewhere"})) as (api, heard):
        assert (await api.upload(EVENT)).status == status
        assert [one.path for one in heard] == ["/2/httpapi"]


async def test_a_key_in_an_error_is_redacted() -> None:
    """Amplitude repeats a wrong key; the client redacts it."""
    body = orjson.dumps({"code": 400, "error": f"Invalid API key: {KEY}"})
    reply = await _upload(_answering(400, body))
    assert KEY.encode() not in reply.body
    assert isinstance(judge_upload(reply, []), Halt)


async def test_a_key_in_a_response_of_absurd_depth_is_redacted() -> None:
    """No response may end the sender or leak the key."""
    depth = 500
    body = b'{"error":"Invalid API key: %b","a":%b%b}' % (KEY.encode(), b"[" * depth, b"]" * depth)
    reply = await _upload(_answering(400, body))
    assert reply == UploadReply(400, b'{"error":"Invalid API key"}')


@pytest.mark.parametrize("key", ["key", "API", "a", "e", "400", "error", '"', "Invalid API key"])
async def test_redacting_a_short_key_keeps_the_meaning_of_a_bad_key(key: str) -> None:
    """A key that is a word of the response must not turn a halt into dead letters."""
    body = orjson.dumps({"code": 400, "error": f"Invalid API key: {key}"})
    reply = await _upload(_answering(400, body), replace(TARGET, api_key=key))
    assert isinstance(judge_upload(reply, []), Halt)


@pytest.mark.parametrize("key", ["code", "200", "2", "0", ":"])
async def test_redacting_a_short_key_keeps_a_confirmation_readable(key: str) -> None:
    """A key that is part of the confirmation must not make it unreadable."""
    reply = await _upload(_ok, replace(TARGET, api_key=key))
    assert isinstance(judge_upload(reply, []), Settled)


def test_the_key_is_not_shown() -> None:
    """Neither the target nor a traceback of it shows the key."""
    assert KEY not in repr(TARGET)


async def test_compressed_answers_are_read() -> None:
    """A gzip response counts like a plain one."""
    reply = await _upload(_answering(200, gzip.compress(OK), {"Content-Encoding": "gzip"}))
    assert reply.body == OK


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        *(("gzip", broken) for broken in (b"not gzip", gzip.compress(OK)[:-12], b"\x1f\x8b")),
        *(("deflate", broken) for broken in (b"\xff\xff", zlib.compress(OK)[:5])),
        *((name, b"junk") for name in ("br", "zstd")),
    ],
)
async def test_a_broken_encoding_is_no_answer(encoding: str, body: bytes) -> None:
    """An undecodable response confirms nothing and raises nothing."""
    reply = await _upload(_answering(200, body, {"Content-Encoding": encoding}))
    assert isinstance(judge_upload(reply, []), Retry)


async def test_an_unknown_encoding_is_read_as_it_is() -> None:
    """A mislabelled response may still confirm."""
    reply = await _upload(_answering(200, OK, {"Content-Encoding": "snappy"}))
    assert reply.status in {200, None}


async def test_silence_ends_with_the_timeout() -> None:
    """One upload never takes longer than its timeout."""

    async def never(_: web.Request) -> web.StreamResponse:
        await anyio.sleep_forever()
        raise AssertionError

    reply = await _upload(never, replace(TARGET, timeout_s=0.1))
    assert reply.status is None
    assert reply.failure == "no answer within 0.1 s"


async def test_an_answer_that_trickles_ends_with_the_timeout() -> None:
    """The timeout covers the whole exchange, not each piece of it."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await anyio.sleep(0.01)

    assert (await _upload(drip, replace(TARGET, timeout_s=0.2))).status is None


async def test_a_refused_connection_is_no_answer() -> None:
    """A refused connection is an outage like any other."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
    async with ClientSession() as session:
        api = EventsApi(session, replace(TARGET, url=f"http://127.0.0.1:{port}"), SystemClock())
        reply = await api.upload(EVENT)
    assert reply.status is None
    assert reply.failure == "Connection refused"


async def test_an_unknown_host_is_no_answer() -> None:
    """An unresolvable name is an outage, and its failure names no URL."""
    async with ClientSession() as session:
        api = EventsApi(session, replace(TARGET, url="http://nowhere.invalid"), SystemClock())
        reply = await api.upload(EVENT)
    assert reply.status is None


HEAD = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 500\r\n\r\n" + OK,
        HEAD + b"Content-Length: abc\r\n\r\n" + OK,
        HEAD + b"Content-Length: -1\r\n\r\n" + OK,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n" + OK,
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"cod',
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\njunk",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_broken_exchange_confirms_nothing_and_raises_nothing(
    answer: bytes,
    is_cut: bool,  # noqa: FBT001
) -> None:
    """Closed, reset, cut or malformed: the upload is retried."""
    reply = await _upload_raw(answer, is_cut=is_cut)
    assert isinstance(judge_upload(reply, []), Retry)


async def test_an_endless_response_is_read_up_to_a_limit() -> None:
    """A hostile response costs relay neither memory nor time."""

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)

    reply = await _upload(flood)
    assert reply.status == 200
    assert MAX_ANSWER_BYTES < len(reply.body) < 3 * MAX_ANSWER_BYTES


async def test_retry_after_comes_back_in_seconds() -> None:
    """The header is read in both of its forms."""
    assert (await _upload(_answering(503, b"", {"Retry-After": "120"}))).retry_after_s == 120.0
    headers = {
        "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
        "Retry-After": "Wed, 21 Oct 2026 07:30:00 GMT",
    }
    assert (await _upload(_answering(429, b"", headers))).retry_after_s == 120.0


async def test_a_hostile_retry_after_raises_nothing() -> None:
    """A date without a time zone is read as UTC or not at all."""
    headers = {"Retry-After": "Wed, 21 Oct 2026 07:30:00 -0000"}
    reply = await _upload(_answering(503, b"", headers))
    assert reply.status == 503


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((None, None), ("", None), ("soon", None), ("-5", None), ("1e3", None)),
        *(("0", 0.0), ("30", 30.0), (" 30 ", 30.0), ("99999999", MAX_RETRY_AFTER_S)),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 08:28:30 +0100", 30.0),
        ("Wed, 21 Oct 2020 07:28:30 GMT", 0.0),
        ("Wed, 21 Oct 2126 07:28:30 GMT", MAX_RETRY_AFTER_S),
        ("Wed, 99 Oct 2026 07:28:30 GMT", None),
    ],
)
def test_retry_after_forms(value: str | None, seconds: float | None) -> None:
    """Seconds, or a date relative to the response's own date, up to a day."""
    assert parse_retry_after(value, "Wed, 21 Oct 2026 07:28:00 GMT", now_s=0.0) == seconds


def test_an_instant_without_a_date_is_read_against_our_clock() -> None:
    """Without a Date header, relay's own clock is the reference."""
    noon_s = 1_792_584_000.0
    wish = formatdate(noon_s + 90, usegmt=True)
    assert parse_retry_after(wish, None, now_s=noon_s) == 90.0
    assert parse_retry_after(wish.removesuffix(" GMT"), "rubbish", now_s=noon_s) == 90.0
