"""The books of a crash test, kept outside of the daemon: what must hold after any misfortune.

Pure: what was answered, what Amplitude holds and what the daemon says come in as arguments;
every departure comes back as a sentence.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields

from tests.support.daemons import Standing

GROWING = ("accepted", "delivered", "dead", "discarded", "duplicate", "filtered", "quarantined")


@dataclass(frozen=True)
class Books:
    """What is known of every event at the end.

    Attributes:
        attempted: Ids of events that were sent to the hook.
        acknowledged: Ids that were answered with 200.
        held: Insert ids of the events that Amplitude counted, each as often as it counted it.
        dead: Insert ids of the dead letters.
    """

    attempted: Collection[str]
    acknowledged: Collection[str]
    held: Sequence[str]
    dead: Sequence[str]


def imbalances(books: Books) -> list[str]:
    """Return what does not add up between the answers and what became of the events."""
    return [
        *_named("lost", set(books.acknowledged) - set(books.held) - set(books.dead)),
        *_named("counted more than once", _repeated(books.held)),
        *_named("dead more than once", _repeated(books.dead)),
        *_named("out of nowhere", {*books.held, *books.dead} - set(books.attempted)),
    ]


def untruths(standing: Standing, books: Books) -> list[str]:
    """Return what the daemon's counts say wrongly of drained books."""
    said = (standing.accepted, standing.delivered, standing.dead, standing.pending)
    true = (len(books.held) + len(books.dead), len(books.held), len(books.dead), 0)
    named = zip(("accepted", "delivered", "dead", "pending"), said, true, strict=True)
    return [f"{name} is {count}, not {right}" for name, count, right in named if count != right]


def breaks(standing: Standing) -> list[str]:
    """Return how one reading of the counts contradicts itself."""
    parts = standing.pending + standing.delivered + standing.dead + standing.discarded
    sentences = [] if standing.accepted == parts else [f"the parts make {parts}: {standing}"]
    if standing.in_flight > standing.pending:
        sentences.append(f"more is in flight than pending: {standing}")
    return sentences


def regressions(before: Standing, after: Standing) -> list[str]:
    """Return which counts were forgotten between two readings."""
    return [
        f"{name} fell from {getattr(before, name)} to {getattr(after, name)}"
        for name in GROWING
        if getattr(after, name) < getattr(before, name)
    ]


def changes(before: Standing, after: Standing) -> list[str]:
    """Return which counts differ between two readings, what is in flight apart."""
    return [
        f"{field.name} was {getattr(before, field.name)}, is {getattr(after, field.name)}"
        for field in fields(Standing)
        if field.name != "in_flight" and getattr(before, field.name) != getattr(after, field.name)
    ]


def _repeated(ids: Sequence[str]) -> set[str]:
    return {name for name, times in Counter(ids).items() if times > 1}


def _named(fate: str, ids: Collection[str]) -> Iterator[str]:
    for name in sorted(ids):
        yield f"{name} is {fate}"
