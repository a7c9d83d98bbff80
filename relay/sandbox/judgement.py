"""The verdict on one upload: what Amplitude answers, and which events it takes.

Order: firewall, whole-request poison, checks of single events, muted devices, throttling.
A refused request stores nothing.
"""

from dataclasses import dataclass
from typing import Final

from relay.sandbox import answers
from relay.sandbox.answers import Answer, JsonObject
from relay.sandbox.conditions import Conditions, PoisonEffect, RateMeter, count_ids, find_holds
from relay.sandbox.uploads import Upload
from relay.sandbox.validation import check_events

_POISON_ANSWERS: Final[dict[PoisonEffect, Answer]] = {
    "bare_400": answers.bad_request(answers.INVALID_VALUES),
    "html_400": answers.html_answer(400, "400 Bad Request"),
    "waf_403": answers.forbidden(),
    "payload_413": answers.too_large(),
}


@dataclass(frozen=True, slots=True)
class Taken:
    """Amplitude takes these events.

    Attributes:
        events: As they are stored (the Batch API takes short ids out).
    """

    events: list[JsonObject]


class Judge:
    """Judges uploads by the standing conditions.

    Attributes:
        conditions: What stands; may be replaced at any time.
    """

    def __init__(self) -> None:
        self.conditions = Conditions()
        self._meter = RateMeter()

    def judge(self, upload: Upload, now_ms: int) -> Taken | Answer:
        """Return what is taken, or the answer that refuses it."""
        poison = self.conditions.request_poison(upload.events)
        if poison is not None:
            return _POISON_ANSWERS[poison.effect]
        poisoned, names_all = self.conditions.poisoned_fields(upload.events)
        checked = check_events(upload, poisoned, names_all=names_all)
        if isinstance(checked, Answer):
            return checked
        holds = find_holds(upload, self.conditions, self._meter, now_ms)
        if holds.silenced_events:
            return answers.silenced(holds)
        if holds.throttled_events:
            return answers.throttled(holds, is_batch=upload.is_batch)
        self._note_rates(upload, now_ms)
        return Taken(checked)

    def _note_rates(self, upload: Upload, now_ms: int) -> None:
        if self.conditions.throttle_above_eps is None:
            return
        for field in ("device_id", "user_id"):
            for identity, count in count_ids(upload.events, field).items():
                self._meter.add(f"{field}:{identity}", count, now_ms)

    def reset(self) -> None:
        """Lift every condition."""
        self.conditions = Conditions()
        self._meter = RateMeter()
