"""What the demo found out, as plain facts: gathered in `findings`, judged in `proof`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from relay.demo.segment_notes import SegmentNotes
from relay.http.admin.schemas import AppStatusAnswer
from relay.sandbox.common.replies import JsonObject


@dataclass(frozen=True, slots=True)
class Known:
    """What the stand-ins know of one app at an instant.

    Attributes:
        promised: Events answered 200 that must reach Amplitude.
        sent: Events that may have reached relay.
        stored: Distinct events Amplitude holds.
    """

    promised: int
    sent: int
    stored: int


@dataclass(frozen=True, slots=True)
class Look:
    """Relay's numbers of one app, between what was known before and after.

    Attributes:
        app: The app's name.
        life: Which start of relay answered, from 1.
        before: Known before relay was asked.
        counts: Its answer.
        after: Known after it.
    """

    app: str
    life: int
    before: Known
    counts: AppStatusAnswer
    after: Known


@dataclass(frozen=True, slots=True)
class AppEvidence:
    """Both sides of one app, at the end.

    Attributes:
        app: Its name.
        promised: Events answered 200 that relay understood and was to send on.
        sent: Events that were sent at all and that relay was to send on.
        first_sent: Event id to the step at which OneSignal first sent it.
        answered: Event id to the step at which it was first answered 200.
        stored: Insert ids at Amplitude, in order of arrival.
        lanes: The same for each device.
        events: The events at Amplitude.
        suppressed: Repetitions Amplitude recognised.
        dead: Insert id to reason of the dead letters.
        counts: Relay's own numbers.
        receipts: Sums of the numbers in relay's answers.
        unanswered: Requests that broke off: each may have been stored nevertheless.
        latencies_ms: Of relay's answers.
        hostile_sent: Bodies nobody could understand, by how often they were sent.
        hostile_answered: The same, by how often they were answered 200.
        quarantined: What stands in quarantine, by how often.
        late: Ids of events that came without their message, and the message's name.
    """

    app: str
    promised: AbstractSet[str]
    sent: AbstractSet[str]
    first_sent: Mapping[str, int]
    answered: Mapping[str, int]
    stored: Sequence[str]
    lanes: Mapping[str, Sequence[str]]
    events: Sequence[JsonObject]
    suppressed: int
    dead: Mapping[str, str]
    counts: AppStatusAnswer
    receipts: Mapping[str, int]
    unanswered: int
    latencies_ms: Sequence[float]
    hostile_sent: Counter[bytes]
    hostile_answered: Counter[bytes]
    quarantined: Counter[bytes]
    late: Mapping[str, str]


@dataclass(slots=True)
class Measured:
    """What the acts noted while they went on.

    Attributes:
        ready_s: From relay's start until it took events.
        halted_s: How long the smaller app's key was refused.
        halted_delivered: Events of the larger app that arrived meanwhile.
        halted_waiting: Events of the smaller app that waited then.
        outage_s: How long Amplitude took nothing.
        outage_answered: Requests relay answered 200 meanwhile.
        outage_stored: Events Amplitude took meanwhile; none, or it was no outage.
        outage_pending: Events on relay's disk at the end of it.
        throttled_waiting: Events of the throttled device that were held.
        throttled_others: Events of all others that arrived meanwhile.
        poisoned: Insert id to the reason it had to die of.
        kills: How often relay was killed.
        kill_open: Requests of OneSignal under way then.
        kill_in_flight: Events in uploads under way then.
        restart_s: From a SIGKILL until relay took events again, at most.
        repaired: Insert id of the dead letter that was tried again.
        stop_s: From SIGTERM to the end.
        stop_code: Exit code then.
        stuck: What the story waited for in vain; empty if it was told to its end.
        segments: Notes of the cohort acts.
    """

    ready_s: float = 0.0
    halted_s: float = 0.0
    halted_delivered: int = 0
    halted_waiting: int = 0
    outage_s: float = 0.0
    outage_answered: int = 0
    outage_stored: int = 0
    outage_pending: int = 0
    throttled_waiting: int = 0
    throttled_others: int = 0
    poisoned: Mapping[str, str] = field(default_factory=dict)
    kills: int = 0
    kill_open: int = 0
    kill_in_flight: int = 0
    restart_s: float = 0.0
    repaired: str = ""
    stop_s: float = 0.0
    stop_code: int | None = None
    stuck: str = ""
    segments: SegmentNotes = field(default_factory=SegmentNotes)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the proof needs.

    Attributes:
        apps: Both apps.
        measured: Notes of the acts.
        looks: Every look at relay's numbers.
        dead_once: Insert id to reason of all dead letters before one was repaired.
        violations: Rules broken in uploads, by how often.
        requests: Uploads Amplitude saw.
        uploaded: Events in them.
        leaks: What stands in relay's log and must not.
        log_lines: Lines of that log.
    """

    apps: Sequence[AppEvidence]
    measured: Measured
    looks: Sequence[Look]
    dead_once: Mapping[str, str]
    violations: Mapping[str, int]
    requests: int
    uploaded: int
    leaks: Sequence[str]
    log_lines: int
