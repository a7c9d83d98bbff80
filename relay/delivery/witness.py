"""Finds an event that can tell whether the door is open. Pure.

It goes by itself, before events that stand before it, so its lane must be its own.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from relay.delivery.load import Load
from relay.outbox.claims import Waiting

MAX_WITNESSES = 3
"""Heard before the door is taken for shut."""


def find_witness(loads: Sequence[Load], heard: int) -> Waiting | None:
    """Return an event that may go first, None if there is none or enough were heard.

    The first is from the far end, where what is refused at the near one ends most likely.

    Args:
        loads: What is left of a claim.
        heard: Witnesses heard before.
    """
    if heard >= MAX_WITNESSES:
        return None
    events = [event for load in loads if not load.is_suspect for event in load.events]
    crowded = _shared_lanes(event for load in loads for event in load.events)
    free = [event for event in events if event.lane not in crowded]
    return free[(len(free) - 1) // (heard + 1)] if free else None


def _shared_lanes(events: Iterable[Waiting]) -> set[str]:
    counts = Counter(event.lane for event in events)
    return {lane for lane, count in counts.items() if count > 1}
