"""All stand-ins behind one door, with their control under `/_sandbox/`."""

from collections.abc import Callable

import anyio
from aiohttp import web
from anyio.abc import TaskStatus
from yarl import URL

from relay.clock import Clock, SystemClock
from relay.sandbox.amplitude import MAX_READ_BYTES, AmplitudeStandIn
from relay.sandbox.amplitude_control import AmplitudeControl
from relay.sandbox.cohort_control import CohortControl
from relay.sandbox.cohorts import CohortsStandIn
from relay.sandbox.control import json_response, not_found
from relay.sandbox.csv_export import CsvExportStandIn
from relay.sandbox.description import describe
from relay.sandbox.door import running
from relay.sandbox.export_control import ExportControl
from relay.sandbox.onesignal_control import OneSignalControl
from relay.sandbox.options import DEFAULT_API_KEY, DEFAULT_APP_ID, SandboxOptions
from relay.sandbox.population import population, settle, subscriptions
from relay.sandbox.source import TrafficSource

__all__ = ["DEFAULT_API_KEY", "DEFAULT_APP_ID", "Sandbox", "SandboxOptions", "serve_sandbox"]


class Sandbox:
    """The stand-ins and the application they share.

    Attributes:
        amplitude: Amplitude's ingest.
        cohorts: Amplitude's cohorts.
        source: OneSignal's event stream.
        exports: OneSignal's CSV export.
        app: One application for all of it.
    """

    def __init__(self, options: SandboxOptions, *, clock: Clock | None = None) -> None:
        own_clock: Clock = clock or SystemClock()
        self.amplitude = AmplitudeStandIn(
            options.api_keys, accepts_any_key=options.accepts_any_key, clock=own_clock
        )
        secret_keys = dict.fromkeys(options.api_keys, options.secret_key)
        self.cohorts = CohortsStandIn(secret_keys, clock=own_clock, storage_host=options.host)
        self.exports = CsvExportStandIn({options.app_id: options.onesignal_key}, clock=own_clock)
        self.source = TrafficSource(options.target, options.app_id, own_clock)
        conditions = self.amplitude.conditions
        conditions.throttled_devices = dict.fromkeys(options.throttled, 31)
        conditions.throttled_users = dict.fromkeys(options.throttled, 31)
        for fault in options.faults:
            self.amplitude.faults.arm(fault)
        people = population(options.people)
        self.exports.put(subscriptions(people))
        for project in self.cohorts.projects.values():
            settle(project, people, own_clock.now_ms())
        self._cohort_control = CohortControl(self.cohorts, options.target)
        self._export_control = ExportControl(self.exports)
        self.app = self._build()

    def _build(self) -> web.Application:
        app = web.Application(client_max_size=MAX_READ_BYTES)
        self.amplitude.mount(app)
        AmplitudeControl(self.amplitude).mount(app)
        OneSignalControl(self.source).mount(app)
        self.cohorts.mount(app)
        self._cohort_control.mount(app)
        self.exports.mount(app)
        self._export_control.mount(app)
        app.router.add_route("GET", "/_sandbox", self._show)
        app.router.add_route("*", "/_sandbox/{tail:.*}", _refuse)
        self.amplitude.mount_rest(app)
        return app

    async def _show(self, _request: web.Request) -> web.Response:
        account = self.amplitude.ledger.summary()
        return json_response(
            {
                "amplitude": account,
                "cohorts": self._cohort_control.summary(),
                "onesignal": self.source.state(),
                "exports": self._export_control.summary(),
            }
        )


async def _refuse(request: web.Request) -> web.Response:
    raise not_found(f"no control route {request.method} {request.path}")


async def serve_sandbox(
    options: SandboxOptions,
    *,
    say: Callable[[str], None],
    task_status: TaskStatus[URL] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all stand-ins until cancelled; `started` gives the URL.

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
