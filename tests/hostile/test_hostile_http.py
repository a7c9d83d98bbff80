"""Requests that two parsers could read differently, and bytes that are no request at all."""

import io
import os
from pathlib import Path

import anyio
import orjson
import pytest

from relay.observability.logs import configure_logging
from tests.hostile.talking import Received, say
from tests.support.relays import TOKEN, app_environment, running_relay

MARK = b"a-word-that-no-log-may-hold"

SECOND = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Mark: " + MARK + b"\r\n\r\n"
"""Answered 200 where it is taken for a request of its own."""

CHUNKS = b"2\r\n[]\r\n0\r\n\r\n"

EVENTS_PATH, ACTION = "/v1/apps/shop/events", "/api/v1/quarantine/discard"


def post(path: str, fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """Return an authenticated request with these header lines."""
    first = b"POST " + path.encode() + b" HTTP/" + version + b"\r\nHost: localhost\r\n"
    token = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
    return first + token + b"X-Mark: " + MARK + b"\r\n" + fields + b"\r\n\r\n" + body


REFUSED = {
    "two framings": (b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "two framings, the other way": (b"Transfer-Encoding: chunked\r\nContent-Length: 4", CHUNKS),
    "two lengths": (b"Content-Length: 2\r\nContent-Length: 20", b"[]"),
    "one length twice": (b"Content-Length: 2\r\nContent-Length: 2", b"[]"),
    "a list of lengths": (b"Content-Length: 2, 2", b"[]"),
    "a signed length": (b"Content-Length: +2", b"[]"),
    "a negative length": (b"Content-Length: -2", b"[]"),
    "a hexadecimal length": (b"Content-Length: 0x2", b"[]"),
    "a length in Python's style": (b"Content-Length: 0_2", b"[]"),
    "a length past all numbers": (b"Content-Length: 99999999999999999999999", b"[]"),
    "an unknown coding": (b"Transfer-Encoding: xchunked", CHUNKS),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS),
    "chunked, not last": (b"Transfer-Encoding: chunked, identity", CHUNKS),
    "identity": (b"Transfer-Encoding: identity\r\nContent-Length: 2", b"[]"),
    "a vertical tab": (b"Transfer-Encoding:\x0bchunked", CHUNKS),
    "a blank before the colon": (b"Transfer-Encoding : chunked", CHUNKS),
    "a folded line": (b"X-Note: a\r\n b\r\nContent-Length: 2", b"[]"),
    "a folded framing": (b"Transfer-Encoding:\r\n chunked", CHUNKS),
    "a bare CR": (b"X-Note: a\rContent-Length: 2", b"[]"),
    "a bare LF": (b"X-Note: a\nContent-Length: 2", b"[]"),
    "NUL in a value": (b"X-Note: a\0b\r\nContent-Length: 2", b"[]"),
    "NUL in a name": (b"X\0Note: a\r\nContent-Length: 2", b"[]"),
    "no name": (b": a\r\nContent-Length: 2", b"[]"),
    "a chunk past all numbers": (b"Transfer-Encoding: chunked", b"f" * 17 + b"\r\n[]"),
    "a negative chunk": (b"Transfer-Encoding: chunked", b"-2\r\n[]\r\n0\r\n\r\n"),
    "chunks parted by LF": (b"Transfer-Encoding: chunked", b"2\n[]\n0\n\n"),
    "a chunk longer than it says": (b"Transfer-Encoding: chunked", b"2\r\n[]]\r\n0\r\n\r\n"),
    "an extension that ends early": (b"Transfer-Encoding: chunked", b"2;\n[]\r\n0\r\n\r\n"),
    "more than was announced": (b"Content-Length: 2", b"[] and more "),
    "ten thousand headers": (b"X-Note: a\r\n" * 10_000 + b"Content-Length: 2", b"[]"),
    "a header of 64 KiB": (b"X-Note: " + b"a" * 65_536, b""),
    "two hosts": (b"Host: elsewhere\r\nContent-Length: 2", b"[]"),
}

UNDERSTOOD = {
    "chunks": (b"Transfer-Encoding: chunked", CHUNKS),
    "chunks in capitals": (b"TRANSFER-ENCODING:\tCHUNKED", CHUNKS),
    "extensions": (b"Transfer-Encoding: chunked", b'2;a=b;c="d"\r\n[]\r\n0\r\n\r\n'),
    "trailers": (b"Transfer-Encoding: chunked", b"2\r\n[]\r\n0\r\nAuthorization: none\r\n\r\n"),
    "an invitation": (b"Expect: 100-continue\r\nContent-Length: 2", b"[]"),
    "a websocket": (b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2", b"[]"),
}

NO_REQUESTS = {
    "TLS": bytes.fromhex("16030100c8010000c40303") + os.urandom(190),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "HTTP/3": b"GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n",
    "a line of 64 KiB": b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an unknown method": b"BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a broken address": b"GET http://[::1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no path": b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes of no kind": b"\x80" + os.urandom(4096),
}


def offline() -> dict[str, str]:
    """Return the settings of an app whose Amplitude is unreachable."""
    return app_environment("shop", "http://127.0.0.1:9")


async def say_all(door: str, requests: dict[str, bytes]) -> dict[str, Received]:
    """Send each request over its own connection; return the responses to each."""
    said: dict[str, Received] = {}

    async def say_one(name: str, request: bytes) -> None:
        said[name] = await say(door, request)

    async with anyio.create_task_group() as speakers:
        for name, request in requests.items():
            speakers.start_soon(say_one, name, request)
    return said


@pytest.fixture
def log() -> io.StringIO:
    """Capture the log down to debug level."""
    stream = io.StringIO()
    configure_logging("debug", "json", stream=stream)
    return stream


async def test_ambiguous_framing_is_rejected(tmp_path: Path, log: io.StringIO) -> None:
    """One 400 and the end: nothing after it becomes a request, nothing is echoed."""
    async with running_relay(tmp_path, offline()) as relay:
        for door, path in ((relay.public, EVENTS_PATH), (relay.admin, ACTION)):
            said = await say_all(
                door,
                {
                    name: post(path, fields, body) + SECOND
                    for name, (fields, body) in REFUSED.items()
                }
                | NO_REQUESTS,
            )
            wrong = {
                name: answer
                for name, answer in said.items()
                if (answer.statuses, answer.is_closed) != ([400], True) or MARK in answer.text
            }
            assert wrong == {}
    assert '"request.failed"' in log.getvalue()
    assert MARK.decode() not in log.getvalue()
    assert "Traceback" not in log.getvalue()


async def test_unusual_framing_is_read_to_its_end(tmp_path: Path) -> None:
    """The next request starts where this one ends and gets its own response."""
    async with running_relay(tmp_path, offline()) as relay:
        said = await say_all(
            relay.public,
            {
                name: post(EVENTS_PATH, fields, body) + SECOND
                for name, (fields, body) in UNDERSTOOD.items()
            },
        )
        answers = {name: [s for s in said[name].statuses if s != 100] for name in UNDERSTOOD}
        assert answers == {name: [200, 200] for name in UNDERSTOOD}


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (post(EVENTS_PATH, b"Transfer-Encoding: chunked"), 400),
        (post(EVENTS_PATH, b"Transfer-Encoding: chunked").replace(TOKEN.encode(), b"none"), 401),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
    ],
)
async def test_a_malformed_body_gets_one_response(
    tmp_path: Path, log: io.StringIO, start: bytes, status: int
) -> None:
    """A second response would be matched to the next request; the rest is not awaited."""
    async with running_relay(tmp_path, offline()) as relay:
        with anyio.fail_after(5):
            said = await say(relay.public, start + b"2\r\n[]\r\n", b"zz\r\n", SECOND, quiet_s=5)
        assert (said.statuses, said.is_closed) == ([status], True)
    lines = [orjson.loads(line) for line in log.getvalue().splitlines()]
    assert not [line for line in lines if line["level"] == "error"]


async def test_http_0_9_is_rejected(tmp_path: Path) -> None:
    """An HTTP/0.9 response could be mistaken for part of another response."""
    async with running_relay(tmp_path, offline()) as relay:
        for door in (relay.public, relay.admin):
            said = await say(door, b"GET /healthz\r\n\r\n")
            assert (said.text, said.is_closed) == (b"", True)


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    """Pipelining is bounded: requests past the buffer are not read."""
    async with running_relay(tmp_path, offline()) as relay:
        ask = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
        said = await say(relay.public, (ask % b"healthz" + ask % b"none") * 200, quiet_s=0.6)
        assert said.statuses == [200, 404] * 200
