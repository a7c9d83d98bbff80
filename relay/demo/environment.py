"""The environment of the scenario: relay in its own process, between both stand-ins."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import anyio
from anyio.abc import TaskGroup

from relay.cli.client import HttpClient
from relay.clock import Clock
from relay.demo.cohort_plan import CohortPlan
from relay.demo.config import Addresses, App, relay_environment
from relay.demo.display import Display
from relay.demo.evidence import Notes
from relay.demo.poll_status import StatusPoller
from relay.demo.relay_process import RelayProcess, StepTimeout
from relay.demo.segment_recorder import SegmentRecorder
from relay.demo.stand_ins import StandIns, make_stand_ins
from relay.demo.traffic_plan import TrafficPlan
from relay.sandbox.common.listener import running
from relay.segments.store import DATABASE_NAME
from relay.settings import Address, process_environment

LOG_NAME: Final = "relay.log"
DATA_NAME: Final = "data"
_HOST: Final = "127.0.0.1"
_ANSWER_S: Final = 5.0


class Plan(NamedTuple):
    """What will happen, made in advance; the larger app comes first."""

    apps: tuple[App, App]
    traffic: TrafficPlan
    cohorts: CohortPlan


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything a step of the scenario needs."""

    plan: Plan
    addresses: Addresses
    stand_ins: StandIns
    process: RelayProcess
    api: HttpClient  # relay's
    status: StatusPoller
    segments: SegmentRecorder  # of the larger app
    display: Display
    clock: Clock
    background: TaskGroup  # ends with the environment
    notes: Notes = field(default_factory=Notes)

    async def start_relay(self) -> float:
        """Start relay and return the seconds until it accepts events.

        Raises:
            DemoFailed: If it does not come up.
        """
        began_s = self.clock.monotonic_s()
        self.status.expect_restart()
        await self.process.start()
        await self.status.until(lambda: self.status.is_ready, "relay is ready")
        return self.clock.monotonic_s() - began_s

    async def restart_relay(self, killed_at_s: float) -> float:
        """Start relay after a SIGKILL and return the seconds since then.

        Raises:
            DemoFailed: If it does not come up.
        """
        await self.start_relay()
        restart_s = self.clock.monotonic_s() - killed_at_s
        self.notes.kills += 1
        self.notes.restart_s = max(self.notes.restart_s, restart_s)
        return restart_s

    async def send(self, step: str) -> None:
        """Let OneSignal send all events of a step, each to its last answer."""
        await self.stand_ins.send(self.plan.traffic.streams(step), self.addresses)

    async def while_sending(self, step: str, work: Callable[[], Awaitable[None]]) -> None:
        """Let OneSignal send a step's events while `work` runs; return after both.

        Raises:
            StepTimeout: If `work` does.
        """
        timeout: StepTimeout | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.send, step, name=f"traffic of {step}")
            try:
                await work()
            except StepTimeout as error:  # the group would wrap it
                timeout = error
                tasks.cancel_scope.cancel()
        if timeout is not None:
            raise timeout


@asynccontextmanager
async def open_environment(
    plan: Plan, folder: Path, display: Display, clock: Clock
) -> AsyncIterator[Environment]:
    """Yield an environment in which relay is not started yet; relay ends with it.

    Relay's data and its log go to `folder`.

    Raises:
        OSError: If loopback has no free port.
    """
    async with AsyncExitStack() as stack:
        public, admin = (stack.enter_context(_reserved_port()) for _ in range(2))
        stand_ins = make_stand_ins(plan.apps, plan.traffic, plan.cohorts, public, clock)
        url = await stack.enter_async_context(running(stand_ins.sandbox.app))
        addresses = Addresses(public, admin, str(url.origin()))
        data = folder / DATA_NAME
        variables = relay_environment(process_environment(), plan.apps, addresses, data)
        process = RelayProcess(variables, folder / LOG_NAME)
        stack.push_async_callback(process.clear_away)
        timeout = aiohttp.ClientTimeout(_ANSWER_S)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        api = HttpClient(session, admin)
        status = StatusPoller(api, process, stand_ins.counts, display.refresh)
        segments = SegmentRecorder(data / DATABASE_NAME, plan.apps[0].name)
        async with anyio.create_task_group() as tasks:
            await tasks.start(status.run, name="demo status")
            await tasks.start(stand_ins.sandbox.source.run, name="sandbox source")
            yield Environment(
                plan, addresses, stand_ins, process, api, status, segments, display, clock, tasks
            )
            tasks.cancel_scope.cancel()


@contextmanager
def _reserved_port() -> Iterator[Address]:
    """Hold a free port; relay, which listens with `SO_REUSEADDR`, can share it at each start."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((_HOST, 0))
        yield Address(_HOST, holder.getsockname()[1])
