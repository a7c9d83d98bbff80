"""What pages of other sites can make a browser on this machine send to the admin door."""

from pathlib import Path

import pytest

from tests.hostile.talking import say
from tests.support.relays import Relay, app_environment, running_relay

ADMIN = "admin-token-of-the-test"

READ = b"GET /api/v1/status"
ACT = b"POST /api/v1/apps/shop/pause"


def environment(**changes: str) -> dict[str, str]:
    """Return the settings of an app whose Amplitude is unreachable."""
    return {**app_environment("shop", "http://127.0.0.1:9"), **changes}


async def status(relay: Relay, request: bytes, *fields: str, version: str = "1.1") -> int:
    """Return the status of a request with these header lines."""
    lines = "".join(f"{field}\r\n" for field in fields)
    text = f" HTTP/{version}\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n"
    said = await say(relay.admin, request + text.encode(), quiet_s=5)
    assert len(said.statuses) == 1
    return said.statuses[0]


OWN = (
    "localhost",
    "LOCALHOST:8081",
    "127.0.0.1",
    "127.0.0.1:8081",
    "127.8.4.2:1",
    "[::1]",
    "[::1]:8081",
    "[0:0:0:0:0:0:0:1]:8081",
)

FOREIGN = (
    "",
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example:8081",
    "localhost@evil.example",
    "evil.example@localhost",
    "user:word@127.0.0.1:8081",
    "localhost/evil.example",
    "localhost?evil.example",
    "localhost#evil.example",
    "localhost\\evil.example",
    "localhost:8081:8081",
    "localhost:port",
    "localhost.",
    "0.0.0.0:8081",
    "[::]:8081",
    "[::1",
    "[::1]evil.example",
    "[::ffff:192.0.2.1]",
    "127.1",
    "2130706433",
    "0x7f000001",
    "192.168.0.1",
    "localhost, evil.example",
)


async def test_only_loopback_names_open_a_door_without_token(tmp_path: Path) -> None:
    """A name that DNS rebinding points to loopback is still the attacker's name."""
    async with running_relay(tmp_path, environment()) as relay:
        opened = {
            host for host in OWN + FOREIGN if await status(relay, READ, f"Host: {host}") != 403
        }
        assert opened == set(OWN)
        assert await status(relay, READ, version="1.0") == 403
        assert await status(relay, b"GET /healthz", "Host: evil.example") == 200


async def test_the_host_cannot_be_named_twice(tmp_path: Path) -> None:
    """With two names, in the target and in the header, only one would be checked."""
    async with running_relay(tmp_path, environment()) as relay:
        for host, address, answer in (
            ("localhost:1", "http://localhost:1", 200),
            ("localhost:1", "http://LOCALHOST:1", 200),
            ("evil.example", "http://evil.example", 403),
            ("evil.example", "http://localhost:1", 400),
            ("localhost:1", "http://evil.example", 400),
            ("localhost:1", "http://user@localhost:1", 400),
        ):
            request = f"GET {address}/api/v1/status".encode()
            assert await status(relay, request, f"Host: {host}") == answer
        assert await status(relay, READ, "Host: localhost", "Host: evil.example") == 400


@pytest.mark.parametrize("token", [None, ADMIN])
async def test_cross_origin_requests_are_rejected(tmp_path: Path, token: str | None) -> None:
    """A cross-origin request is rejected even if the browser adds credentials."""
    host = "Host: localhost:8081"
    bearer = (f"Authorization: Bearer {token}",) if token else ()
    changes = {"RELAY_ADMIN_TOKEN": token} if token else {}
    foreign = (
        "http://evil.example",
        "http://evil.example:8081",
        "http://localhost",
        "http://localhost:3000",
        "http://localhost:80810",
        "http://evil.example@localhost:8081",
        "http://localhost:8081@evil.example",
        "http://localhost:8081.evil.example",
        "http://[::1",
        "file://",
        "null",
        "",
    )
    async with running_relay(tmp_path, environment(**changes)) as relay:
        for request in (READ, ACT):
            for origin in foreign:
                assert await status(relay, request, host, *bearer, f"Origin: {origin}") == 403
            own = "Origin: http://localhost:8081"
            assert await status(relay, request, host, *bearer, own) == 200
            assert await status(relay, request, host, *bearer, own.upper()) == 200
            both = (own, "Origin: http://evil.example")
            assert await status(relay, request, host, *bearer, *both) == 403
        preflight = await status(relay, b"OPTIONS /api/v1/status", host, f"Origin: {foreign[0]}")
        assert preflight == 403


@pytest.mark.parametrize(
    ("site", "mode", "reading", "acting"),
    [
        ("same-origin", "cors", 200, 200),
        ("none", "navigate", 200, 200),
        ("cross-site", "no-cors", 403, 403),
        ("cross-site", "cors", 403, 403),
        ("same-site", "no-cors", 403, 403),
        ("Cross-Site", "No-Cors", 403, 403),
        ("cross-site", "navigate", 200, 403),
    ],
)
async def test_sec_fetch_site_is_respected(
    tmp_path: Path, site: str, mode: str, reading: int, acting: int
) -> None:
    """`Sec-Fetch-Site` also covers requests without `Origin`: images, old forms, links."""
    async with running_relay(tmp_path, environment()) as relay:
        fetch = ("Host: localhost", f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}")
        assert await status(relay, READ, *fetch) == reading
        assert await status(relay, ACT, *fetch) == acting


async def test_no_page_can_frame_or_read_the_door(tmp_path: Path) -> None:
    """Every response, errors included, forbids framing and cross-origin reads."""
    async with running_relay(tmp_path, environment()) as relay:
        for host in ("localhost", "evil.example"):
            headers = {"Host": host}
            answer = await relay.ask("GET", f"{relay.admin}/api/v1/status", headers=headers)
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert not [name for name in answer.headers if name.startswith("Access-Control")]
