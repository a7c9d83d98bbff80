"""Both stand-ins behind one door, with their control under `/_sandbox/`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio
from aiohttp import web
from anyio.abc import TaskStatus
from yarl import URL

from relay.clock import Clock, SystemClock
from relay.sandbox.amplitude import MAX_READ_BYTES, AmplitudeStandIn
from relay.sandbox.amplitude_control import AmplitudeControl
from relay.sandbox.control import json_response, not_found
from relay.sandbox.door import running
from relay.sandbox.faults import FAULT_NAMES, Fault
from relay.sandbox.onesignal import Target
from relay.sandbox.onesignal_control import OneSignalControl
from relay.sandbox.source import TrafficOrder, TrafficSource

DEFAULT_API_KEY: Final = "sandbox-api-key"
DEFAULT_APP_ID: Final = "11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How the sandbox starts.

    Attributes:
        host: Address to listen on.
        port: Port; 0 = any free one.
        api_keys: Keys the Amplitude stand-in knows.
        accepts_any_key: Whether it takes every key.
        faults: Switched on at the start, in this order.
        throttled: Device or user ids that are throttled from the start.
        target: Where the traffic source sends; None = told with each order.
        app_id: OneSignal app its events name.
        order: Traffic that starts at once.
    """

    host: str = "127.0.0.1"
    port: int = 9090
    api_keys: tuple[str, ...] = (DEFAULT_API_KEY,)
    accepts_any_key: bool = False
    faults: tuple[Fault, ...] = ()
    throttled: tuple[str, ...] = ()
    target: Target | None = None
    app_id: str = DEFAULT_APP_ID
    order: TrafficOrder | None = None


class Sandbox:
    """The stand-ins and the application they share.

    Attributes:
        amplitude: Amplitude's ingest.
        source: OneSignal's event stream.
        app: One application for all of it.
    """

    def __init__(self, options: SandboxOptions, *, clock: Clock | None = None) -> None:
        own_clock: Clock = clock or SystemClock()
        self.amplitude = AmplitudeStandIn(
            options.api_keys, accepts_any_key=options.accepts_any_key, clock=own_clock
        )
        self.source = TrafficSource(options.target, options.app_id, own_clock)
        conditions = self.amplitude.conditions
        conditions.throttled_devices = dict.fromkeys(options.throttled, 31)
        conditions.throttled_users = dict.fromkeys(options.throttled, 31)
        for fault in options.faults:
            self.amplitude.faults.arm(fault)
        self.app = self._build()

    def _build(self) -> web.Application:
        app = web.Application(client_max_size=MAX_READ_BYTES)
        self.amplitude.mount(app)
        AmplitudeControl(self.amplitude).mount(app)
        OneSignalControl(self.source).mount(app)
        app.router.add_route("GET", "/_sandbox", self._show)
        app.router.add_route("*", "/_sandbox/{tail:.*}", _refuse)
        self.amplitude.mount_rest(app)
        return app

    async def _show(self, _request: web.Request) -> web.Response:
        account = self.amplitude.ledger.summary()
        return json_response({"amplitude": account, "onesignal": self.source.state()})


async def _refuse(request: web.Request) -> web.Response:
    raise not_found(f"no control route {request.method} {request.path}")


async def serve_sandbox(
    options: SandboxOptions,
    *,
    say: Callable[[str], None],
    task_status: TaskStatus[URL] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve both stand-ins until cancelled; `started` gives the URL.

    Args:
        options: How it starts.
        say: Shows a line to the person who started it.
        task_status: Told when connections are accepted.

    Raises:
        OSError: If the address cannot be had.
    """
    sandbox = Sandbox(options)
    async with (
        running(sandbox.app, options.host, options.port) as url,
        anyio.create_task_group() as tasks,
    ):
        await tasks.start(sandbox.source.run, name="sandbox source")
        for line in describe(url, options):
            say(line)
        if options.order is not None:
            sandbox.source.start(options.order)
        task_status.started(url)
        await anyio.sleep_forever()


def describe(url: URL, options: SandboxOptions) -> list[str]:
    """Return what the sandbox offers, for a person to copy from."""
    door = str(url).rstrip("/")
    faults = f"{door}/_sandbox/amplitude/faults"
    keys = "any key" if options.accepts_any_key else ", ".join(options.api_keys)
    return [
        f"Amplitude's stand-in takes uploads for {keys}. Point relay at it with",
        f"  RELAY_APPS__<APP>__AMPLITUDE_INGEST_URL={door}",
        "What it holds, and how it misbehaves:",
        f"  curl {door}/_sandbox/amplitude",
        f'  curl -d \'{{"name":"503","count":3}}\' {faults}',
        f'  curl -d \'{{"name":"stored_504","seconds":5,"retry_after":2}}\' {faults}',
        f"  curl -X DELETE {faults}",
        f"  names: {' '.join(FAULT_NAMES)}",
        f'  curl -d \'{{"throttled_users":["user-10001"]}}\' {door}/_sandbox/amplitude/conditions',
        "OneSignal's stand-in sends events when told (app id " + options.app_id + "):",
        f'  curl -d \'{{"events":1000,"duplicate_rate":0.1}}\' {door}/_sandbox/onesignal/start',
        f"  curl {door}/_sandbox/onesignal",
    ]
