"""Tells an event that is refused from an app that is. Pure.

A 403 (or a 404, or another answer from the door rather than from Amplitude) may concern one
event's content or everything an app sends. An event that was refused by itself is a suspect; it
dies only if it is refused by itself again after something else was taken. Until then it is
kept, and a row of lone refusals with nothing taken between halts the app: nothing is lost to a
door that is shut.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum, auto

from relay.delivery.batching import Batch
from relay.outbox.claims import Waiting

MAX_ALONE = 5
"""Lone events refused in a row, with nothing taken between, that make the door suspect."""

MAX_SUSPECTS = 10_000
"""Suspects that are remembered, the latest."""


class Refusal(Enum):
    """What to do with a lone event that was refused."""

    DIES = auto()
    WAITS = auto()
    DOOR_IN_DOUBT = auto()


class PoisonDetector:
    """The recent refusals of one app, over all of its senders.

    Attributes:
        takes: Uploads taken so far.
    """

    def __init__(self) -> None:
        self.takes = 0
        self._alone = 0
        self._shut = 0
        self._suspects: OrderedDict[int, int] = OrderedDict()

    def taken(self) -> None:
        """Note an upload that Amplitude took."""
        self.takes += 1
        self._alone = 0
        self._shut = 0

    def shut(self) -> int:
        """Note that the door is taken for shut; return for how many tries the refused must rest.

        They rest longer every time, until something is taken. Otherwise two uploads' worth of
        refused events would take turns for ever, and the good ones behind them never get one.
        """
        self._shut += 1
        return 1 + self._shut

    def is_proven(self, seq: int) -> bool:
        """Return whether something was taken since this event was refused by itself."""
        return self.takes > self._suspects.get(seq, self.takes)

    def judge_alone(self, seq: int, *, dies_alone: bool) -> Refusal:
        """Return what to do with an event that was refused by itself.

        Args:
            seq: The event.
            dies_alone: Whether the answer speaks of the request rather than of the sender,
                so that a first few events may die of it unproven.
        """
        if self.is_proven(seq):
            del self._suspects[seq]
            return Refusal.DIES
        self._alone += 1
        is_in_doubt = self._alone > MAX_ALONE
        if dies_alone and not is_in_doubt:
            return Refusal.DIES
        self._suspects.setdefault(seq, self.takes)
        if len(self._suspects) > MAX_SUSPECTS:
            self._suspects.popitem(last=False)
        return Refusal.DOOR_IN_DOUBT if is_in_doubt else Refusal.WAITS


MAX_WITNESSES = 3
"""Heard before the door is taken for shut."""


def find_witness(loads: Sequence[Batch], heard: int) -> Waiting | None:
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
    free = [event for event in events if event.ordering_key not in crowded]
    return free[(len(free) - 1) // (heard + 1)] if free else None


def _shared_lanes(events: Iterable[Waiting]) -> set[str]:
    counts = Counter(event.ordering_key for event in events)
    return {lane for lane, count in counts.items() if count > 1}
