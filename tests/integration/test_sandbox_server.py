"""All stand-ins behind one listener, with their control API, and the command."""

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import orjson
import pytest
from aiohttp import ClientConnectionError, ClientSession
from yarl import URL

from relay.sandbox.common.faults import UploadFault
from relay.sandbox.common.listener import Listener
from relay.sandbox.onesignal.source import TrafficOrder
from relay.sandbox.options import DEFAULT_API_KEY, SandboxOptions
from relay.sandbox.server import serve_sandbox

UPLOAD = {
    "api_key": DEFAULT_API_KEY,
    "events": [{"event_type": "x", "user_id": "user-1", "insert_id": "i-1"}],
}
PROGRAM = (
    "import typer; from relay.sandbox.command import sandbox;"
    "app = typer.Typer(); app.command()(sandbox); app()"
)


@dataclass
class Remote:
    """A sandbox seen from outside."""

    session: ClientSession
    url: URL
    said: list[str]

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and JSON of a call."""
        url = self.url.join(URL(path))
        async with self.session.request(method, url, json=body) as response:
            return response.status, await response.json()


@asynccontextmanager
async def sandbox(**options: Any) -> AsyncIterator[Remote]:  # noqa: ANN401 - options of all types
    """Run a sandbox for the duration of a test."""
    said: list[str] = []
    with anyio.fail_after(10):
        async with ClientSession() as session, anyio.create_task_group() as tasks:
            url = await tasks.start(_serve, SandboxOptions(port=0, **options), said)
            yield Remote(session, url, said)
            tasks.cancel_scope.cancel()


async def _serve(
    options: SandboxOptions, said: list[str], *, task_status: anyio.abc.TaskStatus[URL]
) -> None:
    await serve_sandbox(options, say=said.append, task_status=task_status)


async def test_ledger_is_shown() -> None:
    """Counts, and the events themselves in pages."""
    async with sandbox() as remote:
        assert (await remote.call("POST", "/batch", UPLOAD))[0] == 200
        _, state = await remote.call("GET", "/_sandbox/amplitude")
        assert state["ledger"]["accounts"][DEFAULT_API_KEY]["events"] == 1
        _, page = await remote.call("GET", "/_sandbox/amplitude/events?limit=1")
        assert page == {
            "api_key": DEFAULT_API_KEY,
            "items": UPLOAD["events"],
            "insert_ids": ["i-1"],
            "next": None,
        }
        _, page = await remote.call("GET", f"/_sandbox/amplitude/events?after=1&api_key={'x'}")
        assert page["items"] == []


async def test_faults_are_switched_on_and_off() -> None:
    """POST adds, PUT replaces, DELETE clears."""
    async with sandbox(faults=(UploadFault(name="502", count=1),)) as remote:
        faults = "/_sandbox/amplitude/faults"
        await remote.call("POST", faults, {"name": 503, "count": 2})
        _, state = await remote.call("PUT", faults, [{"name": "429"}, {"name": "stored_500"}])
        assert [(f["name"], f["stored"]) for f in state["faults"]] == [
            ("429", False),
            ("500", True),
        ]
        assert (await remote.call("POST", "/2/httpapi", UPLOAD))[0] == 429
        await remote.call("DELETE", faults)
        assert (await remote.call("POST", "/2/httpapi", UPLOAD))[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("faults", {"name": "nonsense"}, "name"),
        ("faults", {"name": "503", "cuont": 1}, "cuont"),
        ("faults", {"name": "refuse"}, "seconds"),
        ("faults", {"name": "stored_503"}, "never stores"),
        ("conditions", {"max_events": "many"}, "max_events"),
        ("conditions", {"nonsense": 1}, "nonsense"),
    ],
)
async def test_nonsense_is_rejected_with_the_reason(path: str, body: object, word: str) -> None:
    """A mistake is explained, and changes nothing."""
    async with sandbox() as remote:
        status, answer = await remote.call("POST", f"/_sandbox/amplitude/{path}", body)
        assert status == 400
        assert word in answer["error"]


async def test_conditions_are_changed_and_lifted() -> None:
    """POST sets what it names, PUT resets the rest, DELETE resets all."""
    async with sandbox(throttled=("user-1",)) as remote:
        conditions = "/_sandbox/amplitude/conditions"
        _, state = await remote.call("POST", conditions, {"silenced_devices": ["d-1"]})
        assert state["conditions"]["throttled_users"] == {"user-1": 31}
        assert state["conditions"]["silenced_devices"] == ["d-1"]
        _, state = await remote.call("PUT", conditions, {"throttled_users": ["user-1"]})
        assert state["conditions"]["silenced_devices"] == []
        assert (await remote.call("POST", "/2/httpapi", UPLOAD))[0] == 429
        await remote.call("DELETE", conditions)
        assert (await remote.call("POST", "/2/httpapi", UPLOAD))[0] == 200


async def test_reset_forgets_everything() -> None:
    """The stand-in is as new."""
    async with sandbox(faults=(UploadFault(name="stored_500", count=5),)) as remote:
        await remote.call("POST", "/2/httpapi", UPLOAD)
        _, state = await remote.call("POST", "/_sandbox/amplitude/reset")
        assert state["ledger"]["total_events"] == 0
        assert state["faults"] == []


async def test_other_paths_are_amplitudes_or_unknown() -> None:
    """Outside the control API every path is Amplitude's."""
    async with sandbox() as remote:
        assert await remote.call("POST", "/1/old") == (
            400,
            {"code": 400, "error": "Invalid request path"},
        )
        assert (await remote.call("GET", "/_sandbox/none"))[0] == 404
        assert set((await remote.call("GET", "/_sandbox"))[1]) == {
            *("amplitude", "cohorts", "onesignal", "exports")
        }


async def test_traffic_runs_on_request() -> None:
    """The source sends to its target and shows what was acknowledged."""
    async with sandbox(accepts_any_key=True) as remote:
        template = (
            '{"api_key":"k","options":{"min_id_length":1},"events":[{"event_type":'
            '"{{ event.kind }}","device_id":"{{ event.subscription_id }}",'
            '"insert_id":"{{ event.id }}"}]}'
        )
        url = str(remote.url / "2" / "httpapi")
        order = {"events": 50, "kinds": "all", "url": url, "template": template}
        assert (await remote.call("POST", "/_sandbox/onesignal/start", order))[0] == 202
        state = await _until_idle(remote)
        assert state["oracle"]["acknowledged"] == 50
        _, page = await remote.call("GET", "/_sandbox/onesignal/acknowledged?limit=20")
        assert (len(page["items"]), page["next"]) == (20, 20)
        _, events = await remote.call("GET", "/_sandbox/amplitude/events?api_key=k")
        assert set(page["items"]) <= set(events["insert_ids"])


async def test_traffic_conflicts_are_explained() -> None:
    """One run at a time, with a target, of kinds and templates that exist."""
    async with sandbox(faults=(UploadFault(name="hang"),)) as remote:
        start = "/_sandbox/onesignal/start"
        url = str(remote.url / "batch")
        assert (await remote.call("POST", start, {"events": 1}))[0] == 409
        assert (await remote.call("POST", start, {"url": url, "kinds": ["x"]}))[0] == 409
        assert (await remote.call("POST", start, {"url": url, "template": "{% x %}"}))[0] == 400
        assert (await remote.call("POST", start, {"events": 0}))[0] == 400
        assert (await remote.call("POST", start, {"url": url}))[0] == 202
        assert (await remote.call("POST", start, {"url": url}))[0] == 409
        await remote.call("POST", "/_sandbox/onesignal/stop")
        await _until_idle(remote)


async def test_a_stream_that_was_switched_off_must_be_enabled() -> None:
    """No run starts before it is enabled."""
    async with sandbox(faults=(UploadFault(name="500"),)) as remote:
        order = {
            "events": 3,
            "url": str(remote.url / "batch"),
            "max_attempts": 1,
            "off_after_failures": 1,
            "concurrency": 1,
        }
        start = "/_sandbox/onesignal/start"
        await remote.call("POST", start, order)
        state = await _until_idle(remote)
        assert (state["on"], state["oracle"]["lost_while_off"]) == (False, 2)
        assert (await remote.call("POST", start, order))[0] == 409
        await remote.call("POST", "/_sandbox/onesignal/enable")
        assert (await remote.call("POST", start, order))[0] == 202


async def _until_idle(remote: Remote) -> Any:  # noqa: ANN401 - any JSON
    while True:
        _, state = await remote.call("GET", "/_sandbox/onesignal")
        if not state["running"]:
            return state


async def test_the_listener_refuses_for_some_seconds_over_http() -> None:
    """Closed over HTTP, it reopens alone."""
    async with sandbox() as remote:
        fault = {"name": "refuse", "seconds": 0.2}
        assert (await remote.call("POST", "/_sandbox/amplitude/faults", fault))[0] == 200
        async with ClientSession() as other_client:
            with pytest.raises(ClientConnectionError):
                await other_client.get(remote.url)
        while True:
            try:
                async with (
                    ClientSession() as other_client,
                    other_client.get(remote.url) as response,
                ):
                    assert response.status == 400
            except ClientConnectionError:
                continue
            return


async def test_the_description_is_complete() -> None:
    """The printed lines point relay at every stand-in."""
    async with sandbox() as remote:
        door = str(remote.url).rstrip("/")
        for line in (
            f"  RELAY_APPS__<APP>__AMPLITUDE_INGEST_URL={door}",
            f"  RELAY_APPS__<APP>__AMPLITUDE_COHORTS_URL={door}",
            "  RELAY_APPS__<APP>__AMPLITUDE_SECRET_KEY=sandbox-secret-key",
            f"  RELAY_APPS__<APP>__ONESIGNAL_API_URL={door}",
            "  RELAY_APPS__<APP>__ONESIGNAL_API_KEY=sandbox-onesignal-key",
        ):
            assert line in remote.said


CURL = re.compile(r"  curl (?:-X (?P<method>\w+) )?(?:-d '(?P<body>.*)' )?(?P<url>http\S+)")


async def test_every_command_that_is_described_works() -> None:
    """In the printed order, except those that need a webhook."""
    async with sandbox() as remote:
        statuses = {}
        lines = [line for line in remote.said if not line.endswith("/push")]
        for match in filter(None, map(CURL.fullmatch, lines)):
            method = match["method"] or ("POST" if match["body"] else "GET")
            body = orjson.loads(match["body"]) if match["body"] else None
            status, _ = await remote.call(method, URL(match["url"]).path, body)
            statuses[f"{method} {URL(match['url']).path}"] = status
        assert statuses.pop("POST /_sandbox/onesignal/start") == 409
        assert len(statuses) == 15
        assert set(statuses.values()) == {200}


async def test_traffic_requested_at_the_start_runs_at_once() -> None:
    """`--events` needs no further request."""
    order = TrafficOrder(events=1, url="http://127.0.0.1:1/hook", max_attempts=1)
    async with sandbox(order=order) as remote:
        state = await _until_idle(remote)
        assert state["oracle"]["failed_permanently"] == 1
        assert any(str(remote.url).rstrip("/") in line for line in remote.said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    """Exit code 0, and nothing on stderr."""
    arguments = [sys.executable, "-c", PROGRAM, "--listen", "127.0.0.1:0", "--fault", "hang"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "takes uploads" in process.stdout.readline()
        process.send_signal(number)
        _, complaints = process.communicate(timeout=10)
        assert (process.returncode, complaints) == (0, "")


async def test_the_command_says_when_the_port_is_taken() -> None:
    """Exit code 1, and the address is named."""
    with anyio.fail_after(20):
        async with sandbox() as remote:
            listen = f"127.0.0.1:{remote.url.port}"
            arguments = [sys.executable, "-c", PROGRAM, "--listen", listen]
            result = await anyio.run_process(arguments, check=False)
            assert result.returncode == 1
            assert listen in result.stderr.decode()


async def test_a_taken_address_is_an_error() -> None:
    """The listener does not pretend to be open."""
    async with sandbox() as remote:
        assert remote.url.port is not None
        with pytest.raises(OSError, match="in use"):
            await Listener(_empty(), port=remote.url.port).__aenter__()


def _empty() -> Any:  # noqa: ANN401 - an application
    from aiohttp import web  # noqa: PLC0415 - only here

    return web.Application()
