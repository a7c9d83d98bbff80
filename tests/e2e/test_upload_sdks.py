"""Amplitude's own SDKs, pointed at relay: what they send arrives once, whatever goes wrong.

They run in their own processes, `tests/sdk/send.py` and `tests/sdk/send.mjs`; npm fetches
Amplitude's Node SDK as its lock file says.
"""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import anyio
import orjson
import pytest
from aiohttp import web

from relay.sandbox.common.listener import running
from tests.support.relays import API_KEY, Relay, event, relay_and_amplitude

pytestmark = pytest.mark.slow

SDK = Path(__file__).parents[1] / "sdk"
SEND_S = 60.0
INSTALL_S = 60.0
CAPACITY = 10

Command: TypeAlias = Sequence[str]

RESULTS = [
    ["$groupidentify", 200],
    ["$identify", 200],
    ["$identify", 200],
    ["Bad", 400],
    ["Opened", 200],
    ["revenue_amount", 200],
]
"""Results the SDK reports: all accepted, except the event whose user id is too short."""


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return the command that sends with the Node SDK, installed for this run."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "send.mjs"):
        shutil.copy(SDK / name, folder)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=folder, check=True, timeout=INSTALL_S)
    return ["node", str(folder / "send.mjs")]


@pytest.fixture(params=["python", "node"])
def sdk(request: pytest.FixtureRequest) -> Command:
    """Return the command that sends with one of the SDKs."""
    if request.param == "python":
        return [sys.executable, str(SDK / "send.py")]
    command: Command = request.getfixturevalue("node")
    return command


class Gateway:
    """A proxy between an SDK and relay that records the traffic.

    Attributes:
        uploads: The SDK's requests, oldest first.
        statuses: What relay answered.
        answered_503: Set once relay answered 503.
        lost: How many of relay's next 200s to lose.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.uploads: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.answered_503 = anyio.Event()
        self.lost = 0

    def app(self) -> web.Application:
        """Return an application that forwards everything."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._pass_on)
        return app

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.uploads.append(orjson.loads(body))
        headers = {"Content-Type": request.headers["Content-Type"]}
        url = f"{self._target}{request.path}"
        async with aiohttp.ClientSession() as http:
            answer = await http.post(url, data=body, headers=headers)
            content = await answer.read()
        self.statuses.append(answer.status)
        if answer.status == 503:
            self.answered_503.set()
        if answer.status == 200 and self.lost:
            self.lost -= 1
            return web.Response(status=504, text="<html>Gateway Time-out</html>")
        return web.Response(status=answer.status, body=content, content_type=answer.content_type)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The good events, each once, as relay should deliver them."""
        by_id = {each["insert_id"]: each for upload in self.uploads for each in upload["events"]}
        return [
            {name: value for name, value in each.items() if value != "$remote"}
            for each in by_id.values()
            if each["event_type"] != "Bad"
        ]


@asynccontextmanager
async def gateway(relay: Relay) -> AsyncIterator[tuple[Gateway, str]]:
    """Run a gateway in front of relay and yield its URL."""
    between = Gateway(relay.public)
    async with running(between.app()) as url:
        yield between, str(url).rstrip("/")


async def send(command: Command, url: str) -> object:
    """Have an SDK send its events; return the results it reports."""
    with anyio.fail_after(SEND_S):
        ended = await anyio.run_process([*command, url, API_KEY], stderr=None)
    return orjson.loads(ended.stdout)


@pytest.mark.parametrize("path", ["/2/httpapi", "/batch"])
async def test_every_kind_of_event_arrives_complete(
    tmp_path: Path, sdk: Command, path: str
) -> None:
    """Once, and in the order sent."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        async with gateway(relay) as (between, url):
            assert await send(sdk, f"{url}{path}") == RESULTS
        status = await relay.settled()
        assert (status["delivered"], status["duplicate"], status["dead"]) == (5, 0, 0)
        assert amplitude.ledger.account(API_KEY).events == between.events


async def test_events_wait_in_the_sdk_while_relay_has_no_room(tmp_path: Path, sdk: Command) -> None:
    """A 503 makes the SDK retry, and nothing is missing afterwards."""
    changes = {"RELAY_OUTBOX__MAX_EVENTS": str(CAPACITY)}
    async with relay_and_amplitude(tmp_path, changes) as (relay, amplitude):
        await relay.api("POST", "/apps/shop/pause")
        await relay.post([event(number) for number in range(CAPACITY)])
        async with gateway(relay) as (between, url), anyio.create_task_group() as tasks:
            tasks.start_soon(_resume_after_refusal, between, relay)
            assert await send(sdk, f"{url}/2/httpapi") == RESULTS
        await relay.settled()
        assert 503 in between.statuses
        stored = amplitude.ledger.account(API_KEY).events[CAPACITY:]
        assert by_id(stored) == by_id(between.events)


async def _resume_after_refusal(between: Gateway, relay: Relay) -> None:
    await between.answered_503.wait()
    await relay.api("POST", "/apps/shop/resume")


async def test_a_lost_response_duplicates_nothing(tmp_path: Path, sdk: Command) -> None:
    """The SDK resends what relay already has on disk."""
    async with relay_and_amplitude(tmp_path) as (relay, amplitude):
        async with gateway(relay) as (between, url):
            between.lost = 2
            assert await send(sdk, f"{url}/2/httpapi") == RESULTS
        status = await relay.settled()
        assert (status["accepted"], status["delivered"]) == (5, 5)
        assert status["duplicate"] >= 5
        assert by_id(amplitude.ledger.account(API_KEY).events) == by_id(between.events)
        assert len(between.statuses) > 3


def by_id(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events in an order independent of their way."""
    return sorted(events, key=itemgetter("insert_id"))
