"""Hostile requests through a real socket: each is answered as documented, and nothing is lost."""

import gzip
import json
import re
import socket
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, TypeAlias

import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from tests.support.options import option
from tests.support.relays import TOKEN, Relay, app_environment, event, running_relay

pytestmark = pytest.mark.slow

EXAMPLES: Final = option("HOOK_FUZZ_EXAMPLES", 300)
TIMEOUT_S: Final = 20.0
ANSWERED: Final = re.compile(rb"HTTP/\d\.\d [234]")
COUNTS: Final = ("accepted", "duplicate", "filtered", "quarantined")

Reply: TypeAlias = tuple[int, bytes]

hostile = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

texts = st.text() | st.sampled_from(["\0", "\ud83d", "null", "message.push.clicked", "é" * 2000])
numbers = st.integers() | st.floats() | st.sampled_from([10**30, -(2**64), 2**53, 1e308])
scalars = st.none() | st.booleans() | numbers | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=15,
)
ids = scalars | st.sampled_from(["user-1", "0", "unknown"])
events = st.builds(
    lambda number, over, rest: event(number, **over) | rest,
    st.integers(0, 50),
    st.dictionaries(
        st.sampled_from(["id", "kind", "external_id", "subscription_id", "datetime", "app_id"]), ids
    ),
    st.dictionaries(st.sampled_from(["message", "user", "event.kind", "ip"]), documents),
)
arrays = st.lists(events | documents, max_size=6)
deep = st.tuples(st.sampled_from([200, 990, 1_010, 1_030, 100_000]), st.sampled_from("[{")).map(
    lambda way: (
        b"["
        + (b"[" if way[1] == "[" else b'{"a":') * way[0]
        + b"1"
        + (b"]" if way[1] == "[" else b"}") * way[0]
        + b"]"
    )
)
bodies = (
    (events | documents | arrays).map(lambda document: json.dumps(document).encode())
    | st.binary()
    | deep
)
messages = st.fixed_dictionaries(
    {"cohort_id": st.just("c1") | ids},
    optional={
        "cohort_name": documents,
        "in_cohort": st.booleans() | documents,
        "computed_time": numbers | texts | st.just("1692206763"),
        "message_id": ids,
        "users": st.lists(st.fixed_dictionaries({"user_id": ids}) | documents) | documents,
    },
).map(lambda document: json.dumps(document).encode())


def events_in(body: bytes) -> int:
    """Return how many events a body holds; a body that is no JSON counts as one."""
    try:
        document = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return 1
    return len(document) if isinstance(document, list) else 1


def _refuse(word: str) -> object:
    raise ValueError(word)


class RawClient:
    """Sends requests to a webhook with a minimal HTTP client."""

    def __init__(self, url: str) -> None:
        self._door = URL(url)

    def post(self, webhook: str, body: bytes, **headers: str) -> Reply:
        """Post a body to a webhook and return the response."""
        door = HTTPConnection(str(self._door.host), self._door.port, timeout=TIMEOUT_S)
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        try:
            door.request(
                "POST",
                f"/v1/apps/shop/{webhook}",
                body,
                {"Authorization": f"Bearer {TOKEN}", **named},
            )
            answer = door.getresponse()
            return answer.status, answer.read()
        finally:
            door.close()

    def send(self, request: bytes) -> bytes:
        """Send any bytes and return the first bytes that come back."""
        with socket.create_connection((str(self._door.host), self._door.port), TIMEOUT_S) as door:
            door.sendall(request)
            door.shutdown(socket.SHUT_WR)
            return door.recv(12)


async def knocked_at(
    folder: Path, knock: Callable[[RawClient], None], *, admin: bool = False
) -> None:
    """Run a relay under attack; assert afterwards that it is healthy and its sums are right."""
    async with running_relay(folder, app_environment("shop", "http://127.0.0.1:9")) as relay:
        await anyio.to_thread.run_sync(knock, RawClient(relay.admin if admin else relay.public))
        await relay.status()  # asserts that the counts add up
        await _see_it_well(relay)


async def _see_it_well(relay: Relay) -> None:
    for door in (relay.public, relay.admin):
        for path in ("healthz", "readyz"):
            assert (await relay.ask("GET", f"{door}/{path}")).status == 200


async def test_every_event_of_any_body_is_accounted_for(tmp_path: Path) -> None:
    """Always 200, and a sum equal to the number of events, compressed or not."""

    def knock(knocker: RawClient) -> None:
        @hostile
        @given(bodies, st.booleans())
        def each(body: bytes, is_packed: bool) -> None:  # noqa: FBT001  # drawn
            sent = (
                (gzip.compress(body, 1), {"Content_Encoding": "gzip"}) if is_packed else (body, {})
            )
            status, answer = knocker.post("events", sent[0], **sent[1])
            assert status == 200, answer
            counts = json.loads(answer)
            assert list(counts) == list(COUNTS)
            assert sum(counts.values()) == events_in(body)

        each()

    await knocked_at(tmp_path, knock)


async def test_any_cohort_message_is_applied_or_rejected_with_a_reason(tmp_path: Path) -> None:
    """200 or 422, and rejected bodies are quarantined."""
    refused = 0

    def knock(knocker: RawClient) -> None:
        @hostile
        @given(messages | bodies)
        def each(body: bytes) -> None:
            nonlocal refused
            status, answer = knocker.post("cohorts", body)
            assert status in {200, 422}, answer
            wanted = {"error"} if status == 422 else {"added", "removed", "duplicate", "held"}
            assert json.loads(answer).keys() == wanted
            refused += status == 422

        each()

    await knocked_at(tmp_path, knock)
    assert refused


@pytest.mark.parametrize("admin", [False, True], ids=["public", "admin"])
async def test_bytes_that_are_no_request_do_no_harm(*, admin: bool, tmp_path: Path) -> None:
    """They are rejected, or answered, or the connection ends; relay keeps running."""

    def knock(knocker: RawClient) -> None:
        @hostile
        @given(REQUESTS)
        def each(request: bytes) -> None:
            answer = knocker.send(request)
            assert not answer or ANSWERED.match(answer), answer

        each()

    await knocked_at(tmp_path, knock, admin=admin)


pieces = st.binary(max_size=20) | st.sampled_from(
    [
        *(
            b"GET ",
            b"POST ",
            b"PUT ",
            b"CONNECT ",
            b"/",
            b"/v1/apps/shop/events",
            b"/api/v1/status",
        ),
        *(b" HTTP/1.1\r\n", b" HTTP/9.9\r\n", b"\r\n", b"\n", b"\0", b"Host: 127.0.0.1\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"),
        *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"Expect: 100-continue\r\n"),
        *(f"Authorization: Bearer {TOKEN}\r\n".encode(), b"Upgrade: h2c\r\n", b"?%ff=\xff"),
        *(b"Content-Encoding: gzip\r\n", b"X: " + b"x" * 9_000 + b"\r\n", b"[]", b"%2e%2e/"),
    ]
)
REQUESTS: Final = st.lists(pieces, max_size=12).map(b"".join)
