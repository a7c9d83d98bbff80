"""The event direction as the daemon runs it: the outbox and every app's delivery."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import aiohttp

from relay.amplitude.events_api import EventsApi
from relay.clock import Clock
from relay.daemon.policies import delivery_setup, upload_target
from relay.delivery.delivery import Delivery
from relay.delivery.line import DeliveryMeter
from relay.heartbeat import Heartbeat
from relay.outbox.store import Outbox
from relay.reserve import Reserve
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class EventSide:
    """What takes events out.

    Attributes:
        outbox: Where they wait.
        reserve: Space set aside for a full disk.
        deliveries: What carries every app's events.
        uploads: What every app's events are uploaded with.
    """

    outbox: Outbox
    reserve: Reserve
    deliveries: Mapping[str, Delivery]
    uploads: Mapping[str, EventsApi]

    @property
    def heartbeats(self) -> dict[str, Heartbeat]:
        """The sign of life of every sender, by name."""
        return {
            f"sender.{app}.{number}": heartbeat
            for app, delivery in self.deliveries.items()
            for number, heartbeat in enumerate(delivery.heartbeats, start=1)
        }


@dataclass(frozen=True, slots=True)
class Outside:
    """What the event direction finds in the process.

    Attributes:
        session: For uploads.
        meter: Makes who counts an app's uploads.
        clock: The time.
        rng: Jitter.
    """

    session: aiohttp.ClientSession
    meter: Callable[[str], DeliveryMeter]
    clock: Clock
    rng: Random


async def build_event_side(
    settings: Settings, outbox: Outbox, reserve: Reserve, outside: Outside
) -> EventSide:
    """Build the event direction of every configured app."""
    states = await outbox.ledger.states()
    deliveries, uploads = {}, {}
    for app, own in settings.apps.items():
        api = EventsApi(outside.session, upload_target(own, settings.delivery), outside.clock)
        state, overhead_bytes = states[app], api.overhead_bytes
        setup = delivery_setup(
            app, state.no, settings.delivery, overhead_bytes, is_paused=state.is_paused
        )
        delivery = Delivery(
            setup, outbox.claims, api, outside.meter(app), outside.clock, outside.rng
        )
        outbox.intakes.listen(setup.no, delivery.dispatcher.arrived)
        deliveries[app], uploads[app] = delivery, api
    return EventSide(outbox, reserve, deliveries, uploads)
