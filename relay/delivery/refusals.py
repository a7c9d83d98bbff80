"""Tells an event that is refused from an app that is. Pure.

A 403 (or a 404, or another answer from the door rather than from Amplitude) may concern one
event's content or everything an app sends. Only a success after the first refusal proves the
former. Without such proof a lone refused event is kept, and after a few of them the app is
halted: nothing is lost to a door that is shut.
"""

from enum import Enum, auto

EPISODE_S = 60.0
"""Refusals further apart have nothing to do with each other."""

MAX_UNPROVEN = 5
"""Lone events refused in a row, with no success ever between, that halt the app."""

MAX_ALONE = 50
"""The same with a success somewhere in the episode: the door may have shut since."""

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
        self._since_s = float("-inf")
        self._last_s = float("-inf")
        self._taken_s = float("-inf")
        self._alone = 0
        self._suspects: dict[int, float] = {}

    def taken(self, now_s: float) -> None:
        """Note an upload that Amplitude took."""
        self._taken_s = now_s
        self._alone = 0

    def refused(self, now_s: float) -> None:
        """Note an upload that was refused."""
        if now_s - self._last_s > EPISODE_S:
            self._since_s = now_s
            self._alone = 0
        self._last_s = now_s

    def judge_alone(self, seq: int, now_s: float, *, dies_alone: bool) -> Refusal:
        """Return what to do with an event that was refused by itself.

        Args:
            seq: The event.
            now_s: Monotonic seconds.
            dies_alone: Whether the answer speaks of the request rather than of the sender,
                so that a first few events may die of it unproven.
        """
        self._alone += 1
        first_refused_s = min(self._since_s, self._suspects.get(seq, now_s))
        is_proven = self._taken_s > first_refused_s
        if self._alone > (MAX_ALONE if is_proven else MAX_UNPROVEN):
            judgement = Refusal.HALTS
        elif is_proven or dies_alone:
            judgement = Refusal.DIES
        else:
            judgement = Refusal.WAITS
        if judgement is Refusal.DIES:
            self._suspects.pop(seq, None)
        elif len(self._suspects) < MAX_SUSPECTS:
            self._suspects.setdefault(seq, now_s)
        return judgement
