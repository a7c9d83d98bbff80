"""Secrets leave the daemon and its commands only towards their owners."""

import base64
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aiohttp
import anyio
import orjson
import pytest
from aiohttp import web

from relay.sandbox.common.listener import running
from tests.support.command_line import DEADLINE_S, CommandLine
from tests.support.relays import event

WEBHOOK_TOKENS = ("marked-webhook-token-one", "marked-webhook-token-two")
API_KEY = "marked-amplitude-api-key"
SECRET_KEY = "marked-amplitude-secret-key"
ONESIGNAL_KEY = "os_v2_app_marked-onesignal-key"
ADMIN_TOKEN = "marked-admin-token"
SECRETS = (*WEBHOOK_TOKENS, API_KEY, SECRET_KEY, ONESIGNAL_KEY, ADMIN_TOKEN)

ANSWERS = (
    (400, "application/json", '{"code":400,"error":"Invalid API key: %s"}'),
    (401, "application/json", '{"errors":["Access denied for %s"]}'),
    (403, "application/json", '{"error":{"message":"forbidden: %s"}}'),
    (403, "text/html", "<h1>403 for %s</h1>"),
    (500, "text/plain", "Traceback: %s"),
    (200, "text/html", "<p>welcome %s</p>"),
)
"""Responses of a service that echoes what it was sent."""


ASKED = ("/2/httpapi", "/api/3/cohorts")

COMMANDS = (
    "check --online",
    "status --json",
    "dead-letters list --json",
    "quarantine list --json",
    "directory sync",
    "segments sync none",
    "backup {}/backup",
    "template",
)


def written_as(secret: str) -> Iterator[bytes]:
    """Yield a secret as it looks in texts, URLs and HTTP Basic headers."""
    yield secret.encode()
    yield quote(secret, safe="").encode()
    for pair in (secret, f"{API_KEY}:{secret}", f"{secret}:"):
        yield base64.b64encode(pair.encode()).rstrip(b"=")[:-1]


MARKS = frozenset(mark for secret in SECRETS for mark in written_as(secret))


def found_in(place: str, raw: bytes) -> list[str]:
    """Return which secrets appear where none may."""
    return [f"{place}: {mark.decode()}" for mark in MARKS if mark in raw]


def gossip(asked: Counter[str]) -> web.Application:
    """Return a service that rejects everything and echoes what it was sent, decoded too.

    Args:
        asked: Counts the requests by path; each path gives each response in turn.
    """

    async def answer(request: web.Request) -> web.Response:
        body = (await request.read()).decode("ascii", "replace")
        login = request.headers.get("Authorization", "")
        scheme, _, credentials = login.partition(" ")
        if scheme == "Basic" and not credentials.startswith("os_"):
            login += f" {base64.b64decode(credentials).decode()} {credentials}"
        status, kind, text = ANSWERS[asked[request.path] % len(ANSWERS)]
        asked[request.path] += 1
        said = text.replace("%s", orjson.dumps(f"{login} {body[:2_000]}").decode()[1:-1])
        return web.Response(status=status, text=said, content_type=kind, reason="No")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


def marked(root: Path, service: str, log_format: str) -> CommandLine:
    """Return a relay with a secret of every kind, which retries all the time."""
    prefix = "RELAY_APPS__SHOP__"
    return CommandLine(
        root,
        RELAY_LOG_LEVEL="debug",
        RELAY_LOG_FORMAT=log_format,
        RELAY_ADMIN_TOKEN=ADMIN_TOKEN,
        RELAY_DELIVERY__LINGER_S="0",
        RELAY_DELIVERY__BACKOFF_BASE_S="0.05",
        RELAY_DELIVERY__BACKOFF_CAP_S="0.1",
        RELAY_DELIVERY__HALT_PROBE_S="1",
        RELAY_COHORTS__POLL_INTERVAL_S="1",
        **{
            f"{prefix}WEBHOOK_TOKENS": ",".join(WEBHOOK_TOKENS),
            f"{prefix}AMPLITUDE_API_KEY": API_KEY,
            f"{prefix}AMPLITUDE_SECRET_KEY": SECRET_KEY,
            f"{prefix}ONESIGNAL_API_KEY": ONESIGNAL_KEY,
            f"{prefix}AMPLITUDE_INGEST_URL": service,
            f"{prefix}AMPLITUDE_COHORTS_URL": service,
            f"{prefix}ONESIGNAL_API_URL": service,
        },
    )


@asynccontextmanager
async def logging_to(file: Path, relay: CommandLine) -> AsyncIterator[int]:
    """Run the daemon with both outputs in a file; yield its process id. It ends by SIGABRT."""
    with file.open("ab") as log:
        daemon = await anyio.open_process(
            [sys.executable, "-m", "relay", "serve"],
            env=relay.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with anyio.fail_after(DEADLINE_S):
            while b"relay.ready" not in file.read_bytes():
                assert daemon.returncode is None, file.read_text()
                await anyio.sleep(0.02)
        yield daemon.pid
    finally:
        daemon.send_signal(signal.SIGABRT)
        await daemon.wait()


async def answers_of(relay: CommandLine) -> dict[str, bytes]:
    """Request everything, with good and bad tokens; return the responses."""
    good = {"Authorization": f"Bearer {WEBHOOK_TOKENS[1]}"}
    bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    bad = {"Authorization": f"Bearer {WEBHOOK_TOKENS[0]}x"}
    webhook, api = f"{relay.public}/v1/apps/shop", f"{relay.admin}/api/v1"
    asks: list[tuple[str, str, dict[str, str], bytes]] = [
        ("POST", f"{webhook}/events", good, orjson.dumps([event(n) for n in range(5)])),
        ("POST", f"{webhook}/events", good, b"{broken"),
        ("POST", f"{webhook}/events", good | {"Content-Encoding": "gzip"}, b"no gzip"),
        ("POST", f"{webhook}/events", good | {"Content-Encoding": WEBHOOK_TOKENS[0]}, b"{}"),
        ("POST", f"{webhook}/events", bad, b"{}"),
        ("POST", f"{webhook}/events?token={WEBHOOK_TOKENS[0]}", {}, b"{}"),
        ("POST", f"{relay.public}/v1/apps/{WEBHOOK_TOKENS[0]}/events", good, b"{}"),
        ("POST", f"{webhook}/cohorts", {"X-Relay-Token": WEBHOOK_TOKENS[0]}, b"{}"),
        ("POST", f"{relay.public}/2/httpapi", {}, b'{"api_key":"%b"}' % API_KEY.encode()),
        ("GET", f"{relay.public}/readyz", {}, b""),
        ("GET", f"{relay.admin}/metrics", bearer, b""),
        ("GET", f"{relay.admin}/metrics", bad, b""),
        ("GET", f"{api}/openapi.json", bearer, b""),
        ("GET", f"{api}/quarantine", bearer, b""),
        ("GET", f"{api}/dead-letters", bearer, b""),
        ("GET", f"{api}/cohort-runs", bearer, b""),
        ("GET", f"{api}/segments?token={ADMIN_TOKEN}", bearer, b""),
        ("GET", f"{api}/{ADMIN_TOKEN}", bearer, b""),
        ("POST", f"{api}/apps/{ADMIN_TOKEN}/pause", bearer, b"{}"),
        ("POST", f"{api}/dead-letters/retry", bearer, b'{"%b":1}' % ADMIN_TOKEN.encode()),
    ]
    said = {}
    async with aiohttp.ClientSession() as http:
        for number, (method, url, headers, body) in enumerate(asks):
            async with http.request(method, url, headers=headers, data=body) as answer:
                head = repr(dict(answer.headers)).encode()
                # A response may name what its own request named.
                whole = await answer.read()
                if ADMIN_TOKEN not in url and ADMIN_TOKEN.encode() not in body:
                    said[f"{number} {method} {url.partition('?')[0]}"] = head + whole
    return said


async def statuses(relay: CommandLine, is_over: Callable[[], bool]) -> list[bytes]:
    """Return the daemon's status, polled until it ends."""
    bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    said = []
    with anyio.fail_after(DEADLINE_S):
        async with aiohttp.ClientSession(headers=bearer) as http:
            while not is_over():
                async with http.get(f"{relay.admin}/api/v1/status") as answer:
                    said.append(await answer.read())
                await anyio.sleep(0.05)
    return said


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_secret_leaks(tmp_path: Path, log_format: str) -> None:
    """Not in logs, responses, metrics, files, the command line or a crash."""
    log = tmp_path / "log"
    asked: Counter[str] = Counter()
    found: list[str] = []
    async with running(gossip(asked)) as url:
        relay = marked(tmp_path, str(url).rstrip("/"), log_format)
        async with logging_to(log, relay) as pid:
            for place, raw in (await answers_of(relay)).items():
                found += found_in(place, raw)
            for raw in await statuses(relay, lambda: all(asked[p] > len(ANSWERS) for p in ASKED)):
                found += found_in("status", raw)
            found += found_in("cmdline", Path(f"/proc/{pid}/cmdline").read_bytes())
            for words in COMMANDS if log_format == "json" else COMMANDS[:1]:
                done = await relay.run(*words.format(tmp_path).split())
                found += found_in(words, (done.out + done.err).encode())
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        found += found_in(file.name, str(file).encode() + file.read_bytes())
    assert found == []
    assert (await relay.run("quarantine", "list", "--json")).out.count("broken_") >= 2


async def test_a_wrong_setting_is_reported_without_the_secret(tmp_path: Path) -> None:
    """Also if the secret is under a misspelt name, or in its file."""
    file = tmp_path / "relay.env"
    file.write_text(
        f"RELAY_APPS__SHOP__AMPLITUDE_SECRET={SECRET_KEY}\nRELAY_ADMIN_TOKEN='{ADMIN_TOKEN}\n"
    )
    relay = marked(tmp_path, "http://127.0.0.1:9", "json")
    for words in (("serve",), ("check", "--online"), ("backup", str(tmp_path / "backup"))):
        done = await relay.run("--env-file", str(file), *words, RELAY_ADMIN_TOKN=ADMIN_TOKEN)
        assert done.code == 78
        assert found_in("mistakes", (done.out + done.err).encode()) == []
