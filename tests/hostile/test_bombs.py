"""Bodies larger or deeper than they look: parsed, quarantined or rejected, in bounded memory."""

import gzip
import os
from pathlib import Path

import orjson
import pytest

from tests.support.relays import Relay, app_environment, event, running_relay

LIMIT = 4 * 1024 * 1024

EVENT = orjson.dumps(event(1))

ACCEPTED, KEPT = (200, "accepted"), (200, "quarantined")
REFUSED, UNKNOWN = (413, ""), (415, "")

PLAIN: dict[str, tuple[bytes, tuple[int, str]]] = {
    "open brackets": (b"[" * 100_000, KEPT),
    "nested arrays": (b"[" * 100_000 + b"]" * 100_000, KEPT),
    "nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, KEPT),
    "a number of a million digits": (EVENT.replace(b'"1767261906"', b"9" * 1_000_000), KEPT),
    "a number past all numbers": (EVENT.replace(b'"1767261906"', b"1e999999"), KEPT),
    "a fraction of a million digits": (b"0." + b"9" * 1_000_000, KEPT),
    "a hundred thousand names": (
        b"{%b}" % b",".join(b'"%d":1' % number for number in range(100_000)),
        KEPT,
    ),
    "a name twice": (b'{"event":{"kind":"none"},' + EVENT[1:], ACCEPTED),
    "half a surrogate pair": (EVENT.replace(b"user-1", b"\\ud800"), ACCEPTED),
    "U+0000": (EVENT.replace(b"user-1", b"a\\u0000b"), ACCEPTED),
    "a bare NUL": (EVENT.replace(b"user-1", b"a\0b"), KEPT),
    "a byte order mark": (b"\xef\xbb\xbf" + EVENT, ACCEPTED),
    "UTF-16": (EVENT.decode().encode("utf-16"), KEPT),
    "Latin-1": (EVENT.replace(b"user-1", b"\xfc"), KEPT),
    "one byte too many": (b" " * (LIMIT + 1), REFUSED),
}

GZIP: dict[str, tuple[bytes, tuple[int, str]]] = {
    "a bomb": (gzip.compress(b" " * LIMIT * 50), REFUSED),
    "a bomb in parts": (gzip.compress(b" " * 100_000) * 50, REFUSED),
    "a thousand parts": (gzip.compress(b"") * 1000, KEPT),
    "gzip in gzip": (gzip.compress(gzip.compress(b" " * LIMIT * 20)), KEPT),
    "no gzip": (os.urandom(100_000), KEPT),
    "cut": (gzip.compress(EVENT)[:-9], KEPT),
    "whole": (gzip.compress(EVENT), ACCEPTED),
}


@pytest.mark.parametrize("name", PLAIN)
async def test_a_plain_body_is_accepted_quarantined_or_rejected(tmp_path: Path, name: str) -> None:
    """No content makes the events webhook answer with an error that stops the stream."""
    body, expected = PLAIN[name]
    await _expect(tmp_path, body, expected)


@pytest.mark.parametrize("name", GZIP)
async def test_a_gzip_body_is_decompressed_up_to_the_limit(tmp_path: Path, name: str) -> None:
    """A body past the limit is rejected before it is decompressed whole."""
    body, expected = GZIP[name]
    await _expect(tmp_path, body, expected, Content_Encoding="gzip")


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "compress", "gzip, gzip", "utf-8"])
async def test_other_content_codings_are_rejected(tmp_path: Path, coding: str) -> None:
    """Other content codings could hide bombs too, so they get 415."""
    await _expect(tmp_path, b"{}", UNKNOWN, Content_Encoding=coding)


async def _expect(folder: Path, body: bytes, expected: tuple[int, str], **headers: str) -> None:
    environment = app_environment("shop", "http://127.0.0.1:9")
    async with running_relay(folder, environment) as relay:
        answer = await relay.post(body, **headers)
        status, count = expected
        assert answer.status == status
        if count:
            assert answer.json[count] == sum(answer.json.values()) == 1
        assert await _is_well(relay)


async def _is_well(relay: Relay) -> bool:
    counts: dict[str, int] = (await relay.post(event(2))).json
    return counts["accepted"] == 1
