"""The accounts of a crash test, kept outside the daemon: what must hold after any fault.

Pure: what was answered, what Amplitude holds and what the daemon says come in as arguments;
every deviation comes back as a sentence.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields

from tests.support.daemons import AppCounts

GROWING = ("accepted", "delivered", "dead", "discarded", "duplicate", "filtered", "quarantined")


@dataclass(frozen=True)
class Accounts:
    """What is known of every event at the end.

    Attributes:
        attempted: Ids of events that were posted to the webhook.
        acknowledged: Ids of events that were answered 200.
        held: Insert ids of the events that Amplitude counted, each as often as it counted it.
        dead: Insert ids of the dead letters.
    """

    attempted: Collection[str]
    acknowledged: Collection[str]
    held: Sequence[str]
    dead: Sequence[str]


def imbalances(accounts: Accounts) -> list[str]:
    """Return what does not add up between the acknowledged events and their outcomes."""
    return [
        *_named("lost", set(accounts.acknowledged) - set(accounts.held) - set(accounts.dead)),
        *_named("counted more than once", _repeated(accounts.held)),
        *_named("dead more than once", _repeated(accounts.dead)),
        *_named("out of nowhere", {*accounts.held, *accounts.dead} - set(accounts.attempted)),
    ]


def wrong_counts(counts: AppCounts, accounts: Accounts) -> list[str]:
    """Return which of the daemon's counts disagree with the accounts, once drained."""
    said = (counts.accepted, counts.delivered, counts.dead, counts.pending)
    true = (len(accounts.held) + len(accounts.dead), len(accounts.held), len(accounts.dead), 0)
    named = zip(("accepted", "delivered", "dead", "pending"), said, true, strict=True)
    return [f"{name} is {count}, not {right}" for name, count, right in named if count != right]


def contradictions(counts: AppCounts) -> list[str]:
    """Return how one set of counts contradicts itself."""
    parts = counts.pending + counts.delivered + counts.dead + counts.discarded
    sentences = [] if counts.accepted == parts else [f"the parts make {parts}: {counts}"]
    if counts.in_flight > counts.pending:
        sentences.append(f"more is in flight than pending: {counts}")
    return sentences


def regressions(before: AppCounts, after: AppCounts) -> list[str]:
    """Return which counts fell between two readings."""
    return [
        f"{name} fell from {getattr(before, name)} to {getattr(after, name)}"
        for name in GROWING
        if getattr(after, name) < getattr(before, name)
    ]


def changes(before: AppCounts, after: AppCounts) -> list[str]:
    """Return which counts differ between two readings, `in_flight` aside."""
    return [
        f"{field.name} was {getattr(before, field.name)}, is {getattr(after, field.name)}"
        for field in fields(AppCounts)
        if field.name != "in_flight" and getattr(before, field.name) != getattr(after, field.name)
    ]


def _repeated(ids: Sequence[str]) -> set[str]:
    return {name for name, times in Counter(ids).items() if times > 1}


def _named(fate: str, ids: Collection[str]) -> Iterator[str]:
    for name in sorted(ids):
        yield f"{name} is {fate}"
