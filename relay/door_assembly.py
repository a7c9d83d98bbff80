"""The two doors, built from the parts of a running daemon."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from relay.admission import Admission
from relay.assembly import event_sources, hooks, plain
from relay.clock import Clock
from relay.cohort_side import CohortSide
from relay.delivery.delivery import Delivery
from relay.doors.admin.app import AdminParts, admin_app
from relay.doors.bodies import Bodies
from relay.doors.cohorts_hook import CohortsHook
from relay.doors.events_hook import EventsHook
from relay.doors.health_routes import HealthAnswers
from relay.doors.hook import AppHook, HookCalls
from relay.doors.public import PublicDoor
from relay.doors.under_way import UnderWay
from relay.health import Health
from relay.metrics import Metrics
from relay.outbox.outbox import Outbox
from relay.reception import Reception
from relay.reserve import Reserve
from relay.settings import Settings
from relay.status import Status


@dataclass(frozen=True, slots=True)
class EventSide:
    """What takes events out: the outbox, its reserve of disk, every app's delivery."""

    outbox: Outbox
    reserve: Reserve
    deliveries: Mapping[str, Delivery]


@dataclass(frozen=True, slots=True)
class Running:
    """A running daemon, as its doors reach it."""

    events: EventSide
    cohorts: CohortSide
    admission: Admission
    health: Health
    metrics: Metrics
    clock: Clock

    @property
    def reception(self) -> Reception:
        """What takes the bodies of the events hook."""
        outbox = self.events.outbox
        return Reception(outbox.intakes, outbox.messages, self.clock, self.cohorts.feed)


def public_door(settings: Settings, running: Running, bodies: Bodies) -> PublicDoor:
    """Return what answers at the public door."""
    sources = event_sources(settings, running.events.outbox.ledger)
    calls = HookCalls(hooks(settings, sources), running.admission, bodies)
    app_hooks: dict[str, AppHook] = {
        "events": EventsHook(calls, running.reception),
        "cohorts": CohortsHook(calls, running.cohorts.reception),
    }
    health = HealthAnswers(running.health)
    return PublicDoor(settings.apps, app_hooks, health, bodies, running.metrics, running.clock)


def admin_door(
    settings: Settings, running: Running, bodies: Bodies, under_way: UnderWay
) -> web.Application:
    """Return what answers at the admin door."""
    events, cohorts = running.events, running.cohorts
    status = Status(
        events.outbox.ledger, events.deliveries, cohorts.segments, cohorts.pollers, running.clock
    )
    parts = AdminParts(
        outbox=events.outbox,
        deliveries=events.deliveries,
        status=status,
        reception=running.reception,
        sources=event_sources(settings, events.outbox.ledger),
        health=running.health,
        metrics=running.metrics,
        clock=running.clock,
        segments=cohorts.segments,
        cohort_reception=cohorts.reception,
        pollers=cohorts.pollers,
        imports=cohorts.imports,
        syncs=cohorts.syncs,
        forgetter=cohorts.forgetter,
    )
    token = plain(settings.admin_token) if settings.admin_token else None
    return admin_app(parts, bodies, under_way, token=token)
