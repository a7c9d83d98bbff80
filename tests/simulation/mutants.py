"""Relays broken on purpose: the simulation must find each one, which proves that it can."""

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
class Mutant:
    """How a relay is broken.

    Attributes:
        outbox: Replaces its outbox.
        setup: Replaces its delivery setup.
    """

    outbox: Callable[[Outbox], Outbox] = lambda outbox: outbox
    setup: Callable[[DeliverySetup], DeliverySetup] = lambda setup: setup


SOUND = Mutant()


class _SettlesBeforeUpload(Claims):
    """Marks events as delivered when it claims them."""

    async def open(self, app: int, events: Sequence[Waiting], now_ms: int) -> Claim:
        claim = await super().open(app, events, now_ms)
        await super().settle(claim, Settlement(delivered=events), now_ms)
        return claim

    async def settle(self, claim: Claim, settlement: Settlement, now_ms: int) -> None:
        """Write nothing."""


class _ForgetsClaims(Claims):
    """Does not record its claims."""

    async def open(self, app: int, events: Sequence[Waiting], now_ms: int) -> Claim:
        claim = await super().open(app, events, now_ms)
        spare = Claim(claim.id, app, events)
        await super().settle(spare, Settlement(vanished=events), now_ms)
        return claim


class _RenamesEvents(Claims):
    """Gives some repeated events another insert id."""

    async def read_bodies(self, seqs: Collection[int]) -> bytes | None:
        bodies = await super().read_bodies(seqs)
        return bodies and bodies.replace(b'"insert_id":"e1', b'"insert_id":"f1', 1)


class _KnowsNoOrderingKeys(Claims):
    """Uploads events of one device concurrently."""

    async def read_after(self, app: int, after: int, limit: int) -> tuple[list[Waiting], int]:
        events, cursor = await super().read_after(app, after, limit)
        return [event._replace(ordering_key=f"d:{event.seq}") for event in events], cursor


class _CallsAllDelivered(Claims):
    """Settles refused events as delivered."""

    async def settle(self, claim: Claim, settlement: Settlement, now_ms: int) -> None:
        refused = [death.event for death in settlement.dead]
        delivered = [*settlement.delivered, *refused]
        await super().settle(claim, replace(settlement, delivered=delivered, dead=()), now_ms)


class _AnswersBeforeCommit(OutboxWriter):
    """Answers before the commit."""

    async def append(self, batch: IngestBatch) -> AppendResult:
        with anyio.move_on_after(0):
            return await super().append(batch)
        return AppendResult(len(batch.events), 0)


def _claims(kind: type[Claims]) -> Mutant:
    def alter(outbox: Outbox) -> Outbox:
        claims = kind.__new__(kind)
        claims.__dict__ = outbox.claims.__dict__  # shared state, which erasure sees too
        return replace(outbox, claims=claims)

    return Mutant(outbox=alter)


def _writer(kind: type[OutboxWriter]) -> Mutant:
    def alter(outbox: Outbox) -> Outbox:
        writer = kind.__new__(kind)
        writer.__dict__ = outbox.writer.__dict__
        return replace(outbox, writer=writer)

    return Mutant(outbox=alter)


def _never_gives_up(setup: DeliverySetup) -> DeliverySetup:
    policy = replace(setup.policy, max_age_ms=round(1000 * DAY_S * 1000))
    return replace(setup, policy=policy)


def _never_waits(setup: DeliverySetup) -> DeliverySetup:
    return replace(setup, policy=replace(setup.policy, backoff=BackoffPolicy(0.01, 0.02)))


def _ignores_the_limit(setup: DeliverySetup) -> DeliverySetup:
    limits = replace(setup.limits, max_events=2 * setup.limits.max_events)
    return replace(setup, limits=limits)


BROKEN: Mapping[str, Mutant] = {
    "settles before the upload": _claims(_SettlesBeforeUpload),
    "forgets its claims": _claims(_ForgetsClaims),
    "renames events": _claims(_RenamesEvents),
    "knows no ordering keys": _claims(_KnowsNoOrderingKeys),
    "calls all delivered": _claims(_CallsAllDelivered),
    "answers before the commit": _writer(_AnswersBeforeCommit),
    "never gives up": Mutant(setup=_never_gives_up),
    "never waits": Mutant(setup=_never_waits),
    "heeds no limit": Mutant(setup=_ignores_the_limit),
}
"""Every mutant, by what is wrong with it."""
