"""Amplitude and the network before it, in memory: seeded faults, then the sandbox's judge."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from relay.amplitude.verdicts import UploadReply
from relay.sandbox.amplitude import answers
from relay.sandbox.amplitude.conditions import Conditions, Poison, PoisonEffect
from relay.sandbox.amplitude.judge import Judge
from relay.sandbox.amplitude.uploads import BATCH_PATH, HTTPAPI_PATH, Upload
from relay.sandbox.common.replies import Answer, JsonObject, html_answer
from tests.simulation.journal import Journal
from tests.simulation.project_record import ProjectRecord
from tests.simulation.scenario import Scenario

FLAW_EFFECTS: dict[str, PoisonEffect] = {
    "invalid": "invalid_field",
    "bare_400": "bare_400",
    "html_400": "html_400",
    "waf_403": "waf_403",
    "large": "payload_413",
}
POISONS = [
    Poison(property_name="flaw", property_value=flaw, effect=effect)
    for flaw, effect in FLAW_EFFECTS.items()
]
REASONS = {400: "rejected", 401: "forbidden", 403: "forbidden", 404: "rejected", 413: "too_large"}
"""Dead-letter reasons for a lone event when an answer names none."""

SMALL_EVENTS = 2
"""Largest upload while Amplitude accepts only small ones."""

HELD = frozenset({"throttle", "quota", "silenced"})
"""Kinds that affect some devices and users, not a whole upload."""

MAYBE_STORED = frozenset({"500", "502", "504", "200_html", "200_cut"})


@dataclass(frozen=True)
class Transmission:
    """One upload on its way.

    Attributes:
        events: Its events.
        size_bytes: Size of the bodies.
        fate: What will happen to it; empty for nothing.
        is_stored: Whether Amplitude counts its events although it answers with an error.
        back_s: How long the answer travels.
    """

    events: Sequence[JsonObject]
    size_bytes: int
    fate: str
    is_stored: bool
    back_s: float


Answered = Callable[[UploadReply], None]


class Project:
    """One app's project, and the network path to it.

    Attributes:
        record: What it knows.
        fault_periods: What goes wrong when.
        sent: Uploads sent during each fault period, by its index.
        helped: How often something in each period called for an immediate upload.
    """

    def __init__(
        self, app: str, scenario: Scenario, journal: Journal, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._app = app
        self._scenario = scenario
        self._journal = journal
        self._loop = loop
        self._rng = scenario.rng(f"amplitude {app}")
        self._judge = Judge()
        self._judge.conditions = Conditions(poisons=POISONS)
        self._held: tuple[str, ...] = ()
        self._hiccup_rate = scenario.hiccup_rate
        self.fault_periods = scenario.fault_periods(f"network {app}", scenario.network)
        self.record = ProjectRecord(scenario.memory_s)
        self.sent: Counter[int] = Counter()
        self.helped: Counter[int] = Counter()

    def recover(self) -> None:
        """Let no single upload go wrong from now on; all fault periods are over by then."""
        self._hiccup_rate = 0.0

    def help(self) -> None:
        """Record that a process starts or an operator resumes, which calls for another attempt."""
        now_s = self._loop.time()
        for place, period in enumerate(self.fault_periods):
            self.helped[place] += period.begins_s <= now_s < period.ends_s

    def send(self, events: Sequence[JsonObject], size_bytes: int, answered: Answered) -> None:
        """Begin an upload; `answered` is called with the reply, if there is one."""
        now_s = self._loop.time()
        for place, period in enumerate(self.fault_periods):
            self.sent[place] += period.begins_s <= now_s < period.ends_s
        fate = self._draw_fate()
        self._journal.note("send", self._app, len(events), fate)
        rng, timeout_s = self._rng, self._scenario.timeout_s
        there_s, back_s = rng.uniform(0.005, 0.1), rng.uniform(0.005, 0.1)
        if fate == "slow":
            back_s = rng.uniform(0.3, 0.9) * timeout_s
        if fate == "late":
            there_s = rng.uniform(1.0, 3.0) * timeout_s
        transmission = Transmission(events, size_bytes, fate, rng.random() < 0.5, back_s)
        if fate in {"refused", "reset_before"}:
            self._loop.call_later(there_s, answered, UploadReply(None, failure=fate))
        elif fate != "lost":
            self._loop.call_later(there_s, self._arrive, transmission, answered)

    def note_answer(self, reply: UploadReply) -> None:
        """Record that an answer reached relay."""
        self._journal.note("answer", self._app, reply.status or reply.failure)

    def _draw_fate(self) -> str:
        now_s = self._loop.time()
        kinds = [s.kind for s in self.fault_periods if s.begins_s <= now_s < s.ends_s]
        held = tuple(kind for kind in kinds if kind in HELD)
        if held != self._held:
            self._hold(held)
        whole = [kind for kind in kinds if kind not in HELD]
        if whole:
            return self._rng.choice(whole)
        kinds = [kind for kind in self._scenario.network if kind not in HELD]
        return self._rng.choice(kinds) if kinds and self._rng.random() < self._hiccup_rate else ""

    def _hold(self, kinds: tuple[str, ...]) -> None:
        """Throttle some devices and users while it lasts."""
        self._held = kinds
        devices = [f"d{number}" for number in range(self._scenario.devices)]
        few = self._rng.sample(devices, max(1, len(devices) // 4))
        users = [f"u{self._rng.randrange(self._scenario.devices)}"]
        self._judge.conditions = Conditions(
            poisons=POISONS,
            throttled_devices=dict.fromkeys(few if "throttle" in kinds else [], 31),
            throttled_users=dict.fromkeys(users if "throttle" in kinds else [], 31),
            quota_devices=dict.fromkeys(few[:1] if "quota" in kinds else [], 500_200),
            silenced_devices=set(few[:1] if "silenced" in kinds else []),
        )

    # At Amplitude.

    def _arrive(self, transmission: Transmission, answered: Answered) -> None:
        answer, is_stored = self._answer(transmission)
        self._journal.note("arrive", self._app, answer.status, is_stored)
        if is_stored:
            self.record.take(transmission.events, self._loop.time())
        if transmission.fate == "silent":
            return
        reply = self._reply(answer)
        if transmission.fate == "reset_after":
            reply = UploadReply(None, failure="connection reset")
        elif transmission.fate not in MAYBE_STORED:
            self._note_meaning(answer, transmission)
        self._loop.call_later(transmission.back_s, answered, reply)

    def _answer(self, transmission: Transmission) -> tuple[Answer, bool]:
        """Return the answer, and whether the events are counted."""
        fate = transmission.fate
        if fate in MAYBE_STORED:
            return _broken_answer(fate), transmission.is_stored and self._takes(transmission)
        if answer := self._refusal(fate, len(transmission.events)):
            return answer, False
        upload = self._upload(transmission.events)
        verdict = self._judge.judge(upload, round(self._loop.time() * 1000))
        if isinstance(verdict, Answer):
            return verdict, False
        return answers.success(len(verdict.events), transmission.size_bytes, 0), True

    def _takes(self, transmission: Transmission) -> bool:
        verdict = self._judge.judge(
            self._upload(transmission.events), round(self._loop.time() * 1000)
        )
        return not isinstance(verdict, Answer)

    def _upload(self, events: Sequence[JsonObject]) -> Upload:
        path = BATCH_PATH if self._scenario.is_batch else HTTPAPI_PATH
        return Upload(path, self._app, list(events), 1, frozenset())

    def _refusal(self, fate: str, events: int) -> Answer | None:
        """Return the answer of an intermediary that does not look at the events."""
        match fate:
            case "503":
                return self._asking(html_answer(503, "503 Service Unavailable"))
            case "429":
                return self._asking(answers.error(429, "Too many requests"))
            case "401":
                return html_answer(401, "401 Unauthorized")
            case "403":
                return answers.forbidden()
            case "404":
                return html_answer(404, "404 Not Found")
            case "wrong_key":
                return answers.invalid_api_key("key")
            case "bare_400":
                return answers.bad_request(answers.INVALID_VALUES)
            case "small" if events > SMALL_EVENTS:
                return answers.too_large()
            case _:
                return None

    def _asking(self, answer: Answer) -> Answer:
        """Add a `Retry-After` now and then."""
        wait_s = self._rng.choice((None, None, "1", "15"))
        return answer.with_header("Retry-After", wait_s) if wait_s else answer

    @staticmethod
    def _reply(answer: Answer) -> UploadReply:
        wait = answer.headers.get("Retry-After")
        return UploadReply(answer.status, answer.body, float(wait) if wait else None)

    def _note_meaning(self, answer: Answer, transmission: Transmission) -> None:
        """Record what an answer says of the events: accepted, or dead-lettered for what reason."""
        events, record = transmission.events, self.record
        if answer.status == 200:
            return record.confirm(events)
        said = orjson.loads(answer.body) if answer.body.startswith(b"{") else {}
        named = list(said.get("events_with_invalid_fields", {}).values())
        for indices in named:
            record.offer("invalid_field", [events[index] for index in indices])
        silenced = said.get("silenced_events", [])
        record.offer("silenced", [events[index] for index in silenced])
        is_bare = not named and not silenced and transmission.fate != "wrong_key"
        if answer.status in REASONS and len(events) == 1 and is_bare:
            record.offer(REASONS[answer.status], events)
        return None


def _broken_answer(fate: str) -> Answer:
    if fate == "200_html":
        return html_answer(200, "Welcome")
    if fate == "200_cut":
        return Answer(200, b'{"code":200,"events_inges')
    return html_answer(int(fate), f"{fate} Error")
