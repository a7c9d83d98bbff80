"""Amplitude and the network before it, in memory: seeded misfortunes, then the sandbox's judge."""

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
from tests.simulation.book import Book
from tests.simulation.journal import Journal
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
"""What a lone event may die of when an answer names none."""

SMALL_EVENTS = 2
"""The most events an upload may hold while Amplitude takes only small ones."""

HELD = frozenset({"throttle", "quota", "silenced"})
"""Kinds that concern some devices and users, not a whole upload."""

MAYBE_STORED = frozenset({"500", "502", "504", "200_html", "200_cut"})


@dataclass(frozen=True)
class Parcel:
    """One upload on its way.

    Attributes:
        events: What it holds.
        size_bytes: Of the bodies.
        fate: What will happen to it, empty for nothing.
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
    """One app's project, and the way to it.

    Attributes:
        book: What it knows.
        spells: What goes wrong when.
        sent: How many uploads were sent during each spell, by the spell's place.
        helped: How often something during each spell called for an upload at once.
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
        self.spells = scenario.spells(f"network {app}", scenario.network)
        self.book = Book(scenario.memory_s)
        self.sent: Counter[int] = Counter()
        self.helped: Counter[int] = Counter()

    def mend(self) -> None:
        """Let no single upload go wrong from now on; all spells are over by then."""
        self._hiccup_rate = 0.0

    def help(self) -> None:
        """Note that a process begins or a person says to go on, which asks for another try."""
        now_s = self._loop.time()
        for place, spell in enumerate(self.spells):
            self.helped[place] += spell.begins_s <= now_s < spell.ends_s

    def send(self, events: Sequence[JsonObject], size_bytes: int, answered: Answered) -> None:
        """Begin an upload; `answered` is called with what comes back, if anything does."""
        now_s = self._loop.time()
        for place, spell in enumerate(self.spells):
            self.sent[place] += spell.begins_s <= now_s < spell.ends_s
        fate = self._draw_fate()
        self._journal.note("send", self._app, len(events), fate)
        rng, timeout_s = self._rng, self._scenario.timeout_s
        there_s, back_s = rng.uniform(0.005, 0.1), rng.uniform(0.005, 0.1)
        if fate == "slow":
            back_s = rng.uniform(0.3, 0.9) * timeout_s
        if fate == "late":
            there_s = rng.uniform(1.0, 3.0) * timeout_s
        parcel = Parcel(events, size_bytes, fate, rng.random() < 0.5, back_s)
        if fate in {"refused", "reset_before"}:
            self._loop.call_later(there_s, answered, UploadReply(None, failure=fate))
        elif fate != "lost":
            self._loop.call_later(there_s, self._arrive, parcel, answered)

    def note_answer(self, reply: UploadReply) -> None:
        """Note that an answer has come to relay."""
        self._journal.note("answer", self._app, reply.status or reply.failure)

    def _draw_fate(self) -> str:
        now_s = self._loop.time()
        kinds = [s.kind for s in self.spells if s.begins_s <= now_s < s.ends_s]
        held = tuple(kind for kind in kinds if kind in HELD)
        if held != self._held:
            self._hold(held)
        whole = [kind for kind in kinds if kind not in HELD]
        if whole:
            return self._rng.choice(whole)
        kinds = [kind for kind in self._scenario.network if kind not in HELD]
        return self._rng.choice(kinds) if kinds and self._rng.random() < self._hiccup_rate else ""

    def _hold(self, kinds: tuple[str, ...]) -> None:
        """Hold some devices and users, as long as it lasts."""
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

    def _arrive(self, parcel: Parcel, answered: Answered) -> None:
        answer, is_stored = self._answer(parcel)
        self._journal.note("arrive", self._app, answer.status, is_stored)
        if is_stored:
            self.book.take(parcel.events, self._loop.time())
        if parcel.fate == "silent":
            return
        reply = self._reply(answer)
        if parcel.fate == "reset_after":
            reply = UploadReply(None, failure="connection reset")
        elif parcel.fate not in MAYBE_STORED:
            self._note_meaning(answer, parcel)
        self._loop.call_later(parcel.back_s, answered, reply)

    def _answer(self, parcel: Parcel) -> tuple[Answer, bool]:
        """Return the answer, and whether the events are counted."""
        fate = parcel.fate
        if fate in MAYBE_STORED:
            return _broken_answer(fate), parcel.is_stored and self._takes(parcel)
        if answer := self._refusal(fate, len(parcel.events)):
            return answer, False
        upload = self._upload(parcel.events)
        verdict = self._judge.judge(upload, round(self._loop.time() * 1000))
        if isinstance(verdict, Answer):
            return verdict, False
        return answers.success(len(verdict.events), parcel.size_bytes, 0), True

    def _takes(self, parcel: Parcel) -> bool:
        verdict = self._judge.judge(self._upload(parcel.events), round(self._loop.time() * 1000))
        return not isinstance(verdict, Answer)

    def _upload(self, events: Sequence[JsonObject]) -> Upload:
        path = BATCH_PATH if self._scenario.is_batch else HTTPAPI_PATH
        return Upload(path, self._app, list(events), 1, frozenset())

    def _refusal(self, fate: str, events: int) -> Answer | None:
        """Return the answer of somebody who does not look at the events."""
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
        """Ask for patience, sometimes."""
        wait_s = self._rng.choice((None, None, "1", "15"))
        return answer.with_header("Retry-After", wait_s) if wait_s else answer

    @staticmethod
    def _reply(answer: Answer) -> UploadReply:
        wait = answer.headers.get("Retry-After")
        return UploadReply(answer.status, answer.body, float(wait) if wait else None)

    def _note_meaning(self, answer: Answer, parcel: Parcel) -> None:
        """Note what an answer says of the events: taken, or who may die of it."""
        events, book = parcel.events, self.book
        if answer.status == 200:
            return book.confirm(events)
        said = orjson.loads(answer.body) if answer.body.startswith(b"{") else {}
        named = list(said.get("events_with_invalid_fields", {}).values())
        for indices in named:
            book.offer("invalid_field", [events[index] for index in indices])
        silenced = said.get("silenced_events", [])
        book.offer("silenced", [events[index] for index in silenced])
        is_bare = not named and not silenced and parcel.fate != "wrong_key"
        if answer.status in REASONS and len(events) == 1 and is_bare:
            book.offer(REASONS[answer.status], events)
        return None


def _broken_answer(fate: str) -> Answer:
    if fate == "200_html":
        return html_answer(200, "Welcome")
    if fate == "200_cut":
        return Answer(200, b'{"code":200,"events_inges')
    return html_answer(int(fate), f"{fate} Error")
