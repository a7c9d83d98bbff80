"""Tells an event that is refused from an app that is. Pure.

A 403 (or a 404, or another answer from the door rather than from Amplitude) may concern one
event's content or everything an app sends. Only an upload taken after an event was first
refused, in whatever company, proves the former. Without such proof a lone refused event is
kept, and after a few of them the app is halted: nothing is lost to a door that is shut.
"""

from enum import Enum, auto

MAX_UNPROVEN = 5
"""Lone events refused in a row, with nothing taken between, that halt the app."""

MAX_ALONE = 50
"""The same where something was taken since they were first refused: the door may have shut."""

MAX_SUSPECTS = 1_000
"""Refused events that are remembered until it is known what they died of."""


class Refusal(Enum):
    """What to do with a lone event that was refused."""

    DIES = auto()
    WAITS = auto()
    HALTS = auto()


class Refusals:
    """The recent refusals of one app, over all of its senders."""

    def __init__(self) -> None:
        self._taken_s = float("-inf")
        self._alone = 0
        self._suspects: dict[int, float] = {}

    def taken(self, now_s: float) -> None:
        """Note an upload that Amplitude took."""
        self._taken_s = now_s
        self._alone = 0

    def judge_alone(self, seq: int, first_refused_s: float, *, dies_alone: bool) -> Refusal:
        """Return what to do with an event that was refused by itself.

        Args:
            seq: The event.
            first_refused_s: When an upload of this claim that held it was first refused
                (monotonic seconds).
            dies_alone: Whether the answer speaks of the request rather than of the sender,
                so that a first few events may die of it unproven.
        """
        self._alone += 1
        is_proven = self._taken_s > self._suspects.get(seq, first_refused_s)
        if self._alone > (MAX_ALONE if is_proven else MAX_UNPROVEN):
            judgement = Refusal.HALTS
        elif is_proven or dies_alone:
            judgement = Refusal.DIES
        else:
            judgement = Refusal.WAITS
        if judgement is Refusal.DIES:
            self._suspects.pop(seq, None)
        elif len(self._suspects) < MAX_SUSPECTS:
            self._suspects.setdefault(seq, first_refused_s)
        return judgement
