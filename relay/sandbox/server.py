"""All stand-ins behind one listener, with their control API below `/_sandbox/`.

Both services know the same users from the start: those of the traffic by default.
"""

from collections.abc import Callable
from random import Random
from typing import Final

import anyio
from aiohttp import web
from anyio.abc import TaskStatus
from yarl import URL

from relay.clock import Clock, SystemClock
from relay.sandbox.amplitude.stand_in import MAX_READ_BYTES, AmplitudeStandIn
from relay.sandbox.cohorts.control import CohortControl
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.cohorts.stand_in import CohortsStandIn
from relay.sandbox.common.control_api import json_response, refuse
from relay.sandbox.common.listener import running
from relay.sandbox.onesignal.csv_export import CsvExportStandIn
from relay.sandbox.onesignal.export_files import DEVICE_TYPES, Row
from relay.sandbox.onesignal.source import TrafficSource
from relay.sandbox.onesignal.users import User, make_users
from relay.sandbox.options import SandboxOptions, describe

_TRAFFIC_SEED: Final = 1
_THROTTLED_EPS: Final = 31
_UNSUBSCRIBED_EVERY: Final = 7
_STRANGERS: Final = 20


class Sandbox:
    """The stand-ins and the application they share.

    Attributes:
        amplitude: Amplitude's ingest.
        cohorts: Amplitude's cohorts.
        source: OneSignal's event stream.
        exports: OneSignal's CSV export.
        app: One application for all of them.
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
        conditions.throttled_devices = dict.fromkeys(options.throttled, _THROTTLED_EPS)
        conditions.throttled_users = dict.fromkeys(options.throttled, _THROTTLED_EPS)
        self.amplitude.faults.arm(*options.faults)
        users = make_users(options.people, Random(_TRAFFIC_SEED))  # noqa: S311 - no secrets
        self.exports.put(_subscriptions(users))
        for api_key in self.cohorts.projects:
            for cohort in _cohorts(users):
                self.cohorts.put(cohort, api_key=api_key)
        self._cohort_control = CohortControl(self.cohorts, options.target)
        self.app = self._build()

    def _build(self) -> web.Application:
        app = web.Application(client_max_size=MAX_READ_BYTES)
        self.amplitude.mount(app)
        self.amplitude.control().mount(app)
        self.source.mount_control(app)
        self.cohorts.mount(app)
        self._cohort_control.api.mount(app)
        self.exports.mount(app)
        self.exports.control().mount(app)
        app.router.add_route("GET", "/_sandbox", self._show)
        app.router.add_route("*", "/_sandbox/{tail:.*}", _refuse)
        # Last: Amplitude refuses every path that no other stand-in serves.
        self.amplitude.mount_rest(app)
        return app

    async def _show(self, _request: web.Request) -> web.Response:
        return json_response(
            {
                "amplitude": self.amplitude.ledger.summary(),
                "cohorts": self._cohort_control.summary(),
                "onesignal": self.source.state(),
                "exports": self.exports.summary(),
            }
        )


async def _refuse(request: web.Request) -> web.Response:
    raise refuse(web.HTTPNotFound, f"no control route {request.method} {request.path}")


def _subscriptions(users: list[User]) -> list[Row]:
    """Return the rows of OneSignal's export of these users; some are unsubscribed."""
    return [
        (
            user.external_id or None,
            subscription.subscription_id,
            DEVICE_TYPES[subscription.device_type],
            number % _UNSUBSCRIBED_EVERY != 0,
        )
        for number, user in enumerate(users, 1)
        for subscription in user.subscriptions
    ]


def _cohorts(users: list[User]) -> list[StandInCohort]:
    """Return two cohorts of these users; the first has members OneSignal does not know."""
    if not users:
        return []
    known = [user.external_id for user in users if user.external_id]
    strangers = [f"visitor-{number}" for number in range(_STRANGERS)]
    return [
        StandInCohort(
            id="7khm89cz", name="Paying customers", user_ids=known[::2] + strangers, empty_ids=5
        ),
        StandInCohort(id="fplg9rf", name="At risk", user_ids=known[::3], empty_ids=2),
    ]


async def serve_sandbox(
    options: SandboxOptions,
    *,
    say: Callable[[str], None],
    task_status: TaskStatus[URL] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all stand-ins until cancelled; `started` receives the URL.

    Args:
        options: How it starts.
        say: Prints a line.
        task_status: Notified when connections are accepted.

    Raises:
        OSError: If the address is not available.
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
