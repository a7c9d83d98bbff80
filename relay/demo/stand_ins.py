"""Both services as the demo plays them: what OneSignal sends, and what Amplitude holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import anyio
from yarl import URL

from relay.clock import Clock
from relay.demo.cohort_plan import CohortPlan
from relay.demo.config import Addresses, App
from relay.demo.evidence import StandInCounts
from relay.demo.recorder import DeliveryRecorder
from relay.demo.traffic_plan import PlannedStream, TrafficPlan
from relay.sandbox.amplitude.ledger import Account
from relay.sandbox.amplitude.stand_in import AmplitudeStandIn
from relay.sandbox.common.target import Target
from relay.sandbox.onesignal.event_stream import EventStream
from relay.sandbox.options import SandboxOptions
from relay.sandbox.server import Sandbox
from relay.settings import Address


@dataclass(frozen=True, slots=True)
class StandIns:
    """Both stand-ins, and the deliveries of OneSignal's by app."""

    apps: Sequence[App]
    sandbox: Sandbox
    deliveries: Mapping[str, DeliveryRecorder]
    clock: Clock

    @property
    def amplitude(self) -> AmplitudeStandIn:
        """Amplitude's ingest."""
        return self.sandbox.amplitude

    @property
    def ok_answers(self) -> int:
        """Relay's answers with 200, over all apps."""
        return sum(recorder.ok_answers for recorder in self.deliveries.values())

    @property
    def open_requests(self) -> int:
        """Requests of OneSignal that are open, over all apps."""
        return sum(recorder.open_requests for recorder in self.deliveries.values())

    def account(self, app: App) -> Account:
        """Return what Amplitude holds of an app."""
        return self.amplitude.ledger.account(app.api_key)

    def stored_ids(self) -> set[str]:
        """Return the insert ids Amplitude holds, of all apps."""
        return {name for app in self.apps for name in self.account(app).insert_ids}

    def counts(self) -> dict[str, StandInCounts]:
        """Return what the stand-ins know of each app now."""
        return {
            app.name: StandInCounts(
                promised=len(self.deliveries[app.name].promised),
                sent=len(self.deliveries[app.name].sent),
                stored=len(self.account(app).insert_ids),
            )
            for app in self.apps
        }

    async def send(self, streams: Sequence[PlannedStream], addresses: Addresses) -> None:
        """Send all events of some streams at once, each to its last answer."""
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(self._send, stream, addresses, name=f"stream of {stream.app.name}")

    async def _send(self, planned: PlannedStream, addresses: Addresses) -> None:
        target = Target(URL(addresses.hook(planned.app)), planned.app.token)
        rng = Random(planned.seed)  # noqa: S311 - traffic, not secrets
        stream = EventStream(target, planned.options, rng=rng, clock=self.clock)
        stream.oracle = self.deliveries[planned.app.name]
        async with stream:
            await stream.send(planned.events)


def make_stand_ins(
    apps: tuple[App, App], traffic: TrafficPlan, cohorts: CohortPlan, public: Address, clock: Clock
) -> StandIns:
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
    sandbox.exports.put(cohorts.subscriptions)
    recorders = {app.name: DeliveryRecorder(wanted=traffic.apps[app.name].wanted) for app in apps}
    return StandIns(apps, sandbox, recorders, clock)
