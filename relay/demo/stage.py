"""The stage: both stand-ins, relay in its process, the books of both sides, and the view."""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import aiohttp
import anyio
from yarl import URL

from relay.cli.client import HttpClient
from relay.clock import Clock, SystemClock
from relay.demo.cast import App, Doors, relay_environment
from relay.demo.evidence import Known
from relay.demo.journal import Journal
from relay.demo.process import RelayProcess
from relay.demo.script import Flow, Script
from relay.demo.view import Figures, View, app_figures
from relay.demo.watch import Watch
from relay.http.admin.dead_letters import LIST_DEAD_LETTERS, RETRY_DEAD_LETTERS
from relay.http.admin.quarantine import LIST_QUARANTINE
from relay.http.admin.schemas import Choice, DeadLetterAnswer, Listing, QuarantinedAnswer
from relay.sandbox.amplitude.ledger import Account
from relay.sandbox.common.listener import running
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.event_stream import EventStream
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.settings import Address, process_environment

HOST: Final = "127.0.0.1"
ANSWER_S: Final = 5.0
PAGE: Final = 1_000
LOG_NAME: Final = "relay.log"
DATA_NAME: Final = "data"


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything the acts need.

    Attributes:
        apps: The larger app and the smaller one.
        script: What is sent in each act.
        doors: Where everything listens.
        folder: Where relay's data and its log are.
        sandbox: Both stand-ins.
        process: Relay.
        journals: OneSignal's book of each app.
        watch: Relay's numbers.
        api: Relay's admin door.
        view: What people see.
        clock: What time it is.
    """

    apps: tuple[App, App]
    script: Script
    doors: Doors
    folder: Path
    sandbox: Sandbox
    process: RelayProcess
    journals: Mapping[str, Journal]
    watch: Watch
    api: HttpClient
    view: View
    clock: Clock

    def account(self, app: App) -> Account:
        """Return what Amplitude holds of an app."""
        return self.sandbox.amplitude.ledger.account(app.api_key)

    @property
    def answered(self) -> int:
        """How often relay answered 200, over all apps."""
        return sum(journal.answers_ok for journal in self.journals.values())

    @property
    def open_requests(self) -> int:
        """Requests of OneSignal under way, over all apps."""
        return sum(journal.open_requests for journal in self.journals.values())

    async def start_relay(self) -> float:
        """Start relay and return the seconds until it takes events.

        Raises:
            DemoFailed: If it does not come up.
        """
        began_s = self.clock.monotonic_s()
        self.watch.life += 1
        self.watch.latest = None
        await self.process.start()
        await self.watch.until(self._is_ready, "relay is ready")
        return self.clock.monotonic_s() - began_s

    def _is_ready(self) -> bool:
        return self.watch.latest is not None and self.watch.latest.ready

    async def play(self, act: str) -> None:
        """Let OneSignal send everything the script has for an act, to the last answer."""
        async with anyio.create_task_group() as streams:
            for flow in self.script.flows[act]:
                streams.start_soon(self._send, flow, name=f"stream of {flow.app.name}")

    async def _send(self, flow: Flow) -> None:
        target = Target(URL(self.doors.hook(flow.app)), flow.app.token)
        rng = Random(flow.seed)  # noqa: S311 - traffic, not secrets
        stream = EventStream(target, flow.options, rng=rng, clock=self.clock)
        stream.oracle = self.journals[flow.app.name]
        async with stream:
            await stream.send(flow.events)

    async def dead_letters(self) -> list[DeadLetterAnswer]:
        """Return relay's dead letters."""
        letters: list[DeadLetterAnswer] = []
        after: int | None = 0
        while after is not None:
            page = await self.api.call(LIST_DEAD_LETTERS, Listing(after=after, limit=PAGE))
            letters += page.items
            after = page.next
        return letters

    async def quarantine(self) -> list[QuarantinedAnswer]:
        """Return what relay did not understand."""
        bodies: list[QuarantinedAnswer] = []
        after: int | None = 0
        while after is not None:
            page = await self.api.call(LIST_QUARANTINE, Listing(after=after, limit=PAGE))
            bodies += page.items
            after = page.next
        return bodies

    async def retry(self, letter: int) -> int:
        """Have relay try a dead letter again; return how many that were."""
        answer = await self.api.call(RETRY_DEAD_LETTERS, Choice(ids=[letter]))
        return answer.affected


@asynccontextmanager
async def open_stage(
    apps: tuple[App, App], script: Script, folder: Path, view: View
) -> AsyncIterator[Stage]:
    """Set the stage; relay is not started yet, and is ended at the end.

    Raises:
        OSError: If loopback offers no port.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        public, admin = (stack.enter_context(_reserved_port()) for _ in range(2))
        sandbox = _make_sandbox(apps, script, public, clock)
        url = await stack.enter_async_context(running(sandbox.app))
        doors = Doors(public, admin, str(url.origin()))
        data = folder / DATA_NAME
        environment = relay_environment(process_environment(), apps, doors, data)
        process = RelayProcess(environment, folder / LOG_NAME)
        stack.push_async_callback(process.clear_away)
        timeout = aiohttp.ClientTimeout(ANSWER_S)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        api = HttpClient(session, admin)
        journals = {app.name: Journal(wanted=script.wanted[app.name]) for app in apps}
        books = _Books(apps, sandbox, journals)
        watch = Watch(api, process, books.known, view.refresh)
        stack.enter_context(view.following(lambda: books.figures(watch)))
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch.run, name="demo watch")
            await tasks.start(sandbox.source.run, name="sandbox source")
            yield Stage(
                apps, script, doors, folder, sandbox, process, journals, watch, api, view, clock
            )
            tasks.cancel_scope.cancel()


def _make_sandbox(apps: tuple[App, App], script: Script, public: Address, clock: Clock) -> Sandbox:
    """Return stand-ins that know both apps, and OneSignal's users of the first one."""
    first = apps[0]
    options = SandboxOptions(
        api_keys=tuple(app.api_key for app in apps),
        target=Target(URL(f"http://{public}/v1/apps/{first.name}/events"), first.token),
        app_id=first.onesignal_id,
        secret_key=first.secret_key,
        onesignal_key=first.onesignal_key,
    )
    sandbox = Sandbox(options, clock=clock)
    sandbox.exports.put(script.audience.subscriptions)
    return sandbox


@dataclass(frozen=True, slots=True)
class _Books:
    """What the stand-ins know."""

    apps: Sequence[App]
    sandbox: Sandbox
    journals: Mapping[str, Journal]

    def known(self) -> dict[str, Known]:
        """Return the figures of every app."""
        return {
            app.name: Known(
                promised=len(self.journals[app.name].promised),
                sent=len(self.journals[app.name].sent),
                stored=len(self.sandbox.amplitude.ledger.account(app.api_key).insert_ids),
            )
            for app in self.apps
        }

    def figures(self, watch: Watch) -> list[Figures]:
        """Return what the view shows of every app."""
        return [
            app_figures(
                app.name,
                sent=self.journals[app.name].attempts,
                answered=self.journals[app.name].answers_ok,
                relay=watch.app(app.name),
                stored=len(self.sandbox.amplitude.ledger.account(app.api_key).insert_ids),
            )
            for app in self.apps
        ]


@contextmanager
def _reserved_port() -> Iterator[Address]:
    """Hold a free port that only a listener with `SO_REUSEADDR` may share: relay's, twice."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        yield Address(HOST, holder.getsockname()[1])
