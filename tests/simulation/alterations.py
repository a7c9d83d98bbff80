"""Relays with something wrong, each of which a simulation must find out: it proves that it can."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import anyio

from relay.delivery.circuit_breaker import BackoffPolicy
from relay.delivery.pool import DeliverySetup
from relay.events.batch import IngestBatch
from relay.outbox.claims import Claim, Claims, Settlement, Waiting
from relay.outbox.store import Outbox
from relay.outbox.writer import AppendResult, OutboxWriter
from tests.simulation.scenario import DAY_S


@dataclass(frozen=True)
class Alteration:
    """What is different in a relay.

    Attributes:
        outbox: Changes its outbox.
        setup: Changes its delivery's setup.
    """

    outbox: Callable[[Outbox], Outbox] = lambda outbox: outbox
    setup: Callable[[DeliverySetup], DeliverySetup] = lambda setup: setup


SOUND = Alteration()


class _SettlesBeforeUpload(Claims):
    """Notes events as delivered when it takes them in hand."""

    async def open(self, app: int, events: Sequence[Waiting], now_ms: int) -> Claim:
        claim = await super().open(app, events, now_ms)
        await super().settle(claim, Settlement(delivered=events), now_ms)
        return claim

    async def settle(self, claim: Claim, settlement: Settlement, now_ms: int) -> None:
        """Write nothing."""


class _ForgetsClaims(Claims):
    """Does not write down what it takes in hand."""

    async def open(self, app: int, events: Sequence[Waiting], now_ms: int) -> Claim:
        claim = await super().open(app, events, now_ms)
        spare = Claim(claim.id, app, events)
        await super().settle(spare, Settlement(vanished=events), now_ms)
        return claim


class _RenamesEvents(Claims):
    """Gives a repeated event another insert id now and then."""

    async def read_bodies(self, seqs: Collection[int]) -> bytes | None:
        bodies = await super().read_bodies(seqs)
        return bodies and bodies.replace(b'"insert_id":"e1', b'"insert_id":"f1', 1)


class _KnowsNoOrderingKeys(Claims):
    """Lets the events of a device go side by side."""

    async def read_after(self, app: int, after: int, limit: int) -> tuple[list[Waiting], int]:
        events, cursor = await super().read_after(app, after, limit)
        return [event._replace(ordering_key=f"d:{event.seq}") for event in events], cursor


class _CallsAllDelivered(Claims):
    """Takes what is refused for delivered."""

    async def settle(self, claim: Claim, settlement: Settlement, now_ms: int) -> None:
        refused = [death.event for death in settlement.dead]
        delivered = [*settlement.delivered, *refused]
        await super().settle(claim, replace(settlement, delivered=delivered, dead=()), now_ms)


class _AnswersBeforeCommit(OutboxWriter):
    """Says that it has what it has not."""

    async def append(self, intake: IngestBatch) -> AppendResult:
        with anyio.move_on_after(0):
            return await super().append(intake)
        return AppendResult(len(intake.events), 0)


def _claims(kind: type[Claims]) -> Alteration:
    def alter(outbox: Outbox) -> Outbox:
        claims = kind.__new__(kind)
        claims.__dict__ = outbox.claims.__dict__  # one state, seen by forgetting too
        return replace(outbox, claims=claims)

    return Alteration(outbox=alter)


def _writer(kind: type[OutboxWriter]) -> Alteration:
    def alter(outbox: Outbox) -> Outbox:
        writer = kind.__new__(kind)
        writer.__dict__ = outbox.writer.__dict__
        return replace(outbox, writer=writer)

    return Alteration(outbox=alter)


def _never_gives_up(setup: DeliverySetup) -> DeliverySetup:
    policy = replace(setup.policy, max_age_ms=round(1000 * DAY_S * 1000))
    return replace(setup, policy=policy)


def _never_waits(setup: DeliverySetup) -> DeliverySetup:
    return replace(setup, policy=replace(setup.policy, backoff=BackoffPolicy(0.01, 0.02)))


def _heeds_no_limit(setup: DeliverySetup) -> DeliverySetup:
    limits = replace(setup.limits, max_events=2 * setup.limits.max_events)
    return replace(setup, limits=limits)


BROKEN: Mapping[str, Alteration] = {
    "settles before the upload": _claims(_SettlesBeforeUpload),
    "forgets what it has in hand": _claims(_ForgetsClaims),
    "renames events": _claims(_RenamesEvents),
    "knows no ordering keys": _claims(_KnowsNoOrderingKeys),
    "calls all delivered": _claims(_CallsAllDelivered),
    "answers before the commit": _writer(_AnswersBeforeCommit),
    "never gives up": Alteration(setup=_never_gives_up),
    "never waits": Alteration(setup=_never_waits),
    "heeds no limit": Alteration(setup=_heeds_no_limit),
}
"""What is wrong, by name."""
