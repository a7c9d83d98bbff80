"""What the demo found out, as plain facts: noted by the scenario, judged by the checks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from relay.demo.expected import Members
from relay.http.admin.schemas import AppStatusAnswer
from relay.sandbox.answers import JsonObject


@dataclass(frozen=True, slots=True)
class StandInCounts:
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
class StatusSample:
    """Relay's counts of one app, between what the stand-ins knew before and after.

    Attributes:
        app: The app's name.
        start: Which start of relay answered, from 1.
        before: Known before relay was asked.
        counts: Relay's answer.
        after: Known after it.
    """

    app: str
    start: int
    before: StandInCounts
    counts: AppStatusAnswer
    after: StandInCounts


@dataclass(frozen=True, slots=True)
class AppEvidence:
    """Both sides of one app, at the end.

    Attributes:
        app: Its name.
        promised: Events answered 200 that relay understood and must send on.
        sent: Events sent at all that relay must send on.
        first_sent: Event id to the step at which OneSignal first sent it.
        first_answered: Event id to the step at which it was first answered 200.
        stored: Insert ids at Amplitude, in order of arrival.
        device_order: The same for each device.
        events: The events at Amplitude.
        suppressed: Repeated uploads Amplitude recognised.
        dead: Insert id to reason of the dead letters.
        counts: Relay's own counts.
        receipts: Sums of the counts in relay's answers.
        unanswered: Requests that broke off; relay may have stored each of them anyway.
        latencies_ms: Of relay's answers.
        unreadable_sent: Bodies that cannot be understood, with the number of attempts.
        unreadable_answered: The same, with the number of 200 answers.
        quarantined: Bodies in quarantine, with their number.
        late: Ids of events that came without their message, and the message's name.
    """

    app: str
    promised: AbstractSet[str]
    sent: AbstractSet[str]
    first_sent: Mapping[str, int]
    first_answered: Mapping[str, int]
    stored: Sequence[str]
    device_order: Mapping[str, Sequence[str]]
    events: Sequence[JsonObject]
    suppressed: int
    dead: Mapping[str, str]
    counts: AppStatusAnswer
    receipts: Mapping[str, int]
    unanswered: int
    latencies_ms: Sequence[float]
    unreadable_sent: Counter[bytes]
    unreadable_answered: Counter[bytes]
    quarantined: Counter[bytes]
    late: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A segment at the end of a step.

    Attributes:
        name: What had happened.
        cohort_id: The segment's cohort.
        expected: The members by both services' data.
        seen: Those of the view.
    """

    name: str
    cohort_id: str
    expected: Members
    seen: Members


@dataclass(frozen=True, slots=True)
class Explained:
    """Relay's explanation of a segment, and the same numbers from both services' data.

    Attributes:
        name: What had happened.
        given: Relay's.
        expected: The demo's own.
    """

    name: str
    given: Mapping[str, int]
    expected: Mapping[str, int]


@dataclass(slots=True)
class SegmentHistory:
    """What another program saw in the segment views.

    Attributes:
        readings: The number of readings.
        seen: By cohort, the members seen, without immediate repetitions.
        changes: By cohort, the number of changes.
        contradictions: Where one view contradicts another.
        errors: Why a reading failed.
    """

    readings: int = 0
    seen: dict[str, list[Members]] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)
    contradictions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class SegmentNotes:
    """What the segment steps noted.

    Attributes:
        comparisons: In order.
        revisions: By cohort, the members of every revision there may be, in order.
        history: What another program saw meanwhile.
        failed_files: What was wrong with a file, and the reason of the run it failed.
        missing_state: State of the segment whose cohort was gone from the list.
        held_reason: Why the shrink was held.
        held_leavers: The number of members it would have removed.
        explained: Explanations.
        messages: Messages of the webhook, repetitions not counted.
        deliveries: Deliveries of them answered 200.
        undelivered: Deliveries answered otherwise.
        exports_killed: Exports that ran when relay was killed.
        exports_repeated: Further exports relay asked for after that.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    revisions: dict[str, list[Members]] = field(default_factory=dict)
    history: SegmentHistory = field(default_factory=SegmentHistory)
    failed_files: dict[str, str] = field(default_factory=dict)
    missing_state: str = ""
    held_reason: str = ""
    held_leavers: int = 0
    explained: list[Explained] = field(default_factory=list)
    messages: int = 0
    deliveries: int = 0
    undelivered: int = 0
    exports_killed: int = 0
    exports_repeated: int = 0


@dataclass(slots=True)
class Notes:
    """What the steps noted while they ran.

    Attributes:
        timeout: What a step waited for in vain; empty if all steps completed.
        halted_s: How long the smaller app's key was refused.
        halted_delivered: Events of the larger app that arrived meanwhile.
        halted_waiting: Events of the smaller app that waited then.
        outage_s: How long Amplitude took nothing.
        outage_answered: Requests relay answered 200 meanwhile.
        outage_stored: Events Amplitude took meanwhile; 0, or it was no outage.
        outage_pending: Events on relay's disk at the end of it.
        throttled_waiting: Events of the throttled device that were held.
        throttled_others: Events of all others that arrived meanwhile.
        poisoned: Insert id to the reason with which it must become a dead letter.
        dead_before_retry: Insert id to reason of all dead letters before one was retried.
        retried: Insert id of the dead letter that was retried.
        kills: The number of SIGKILLs.
        kill_open: Requests of OneSignal that were open then.
        kill_in_flight: Events in uploads then.
        restart_s: From a SIGKILL until relay was ready again, at most.
        stop_s: From SIGTERM to the end.
        stop_code: Exit code then.
        segments: Notes of the segment steps.
    """

    timeout: str = ""
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
    dead_before_retry: Mapping[str, str] = field(default_factory=dict)
    retried: str = ""
    kills: int = 0
    kill_open: int = 0
    kill_in_flight: int = 0
    restart_s: float = 0.0
    stop_s: float = 0.0
    stop_code: int | None = None
    segments: SegmentNotes = field(default_factory=SegmentNotes)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the checks judge.

    Attributes:
        apps: Both apps.
        notes: Of the steps.
        samples: All samples of relay's counts.
        violations: Rules broken in uploads, with the number of times.
        requests: Uploads Amplitude saw.
        uploaded: Events in them.
        leaks: Secrets and ids found in relay's log.
        log_lines: Lines of that log.
    """

    apps: Sequence[AppEvidence]
    notes: Notes
    samples: Sequence[StatusSample]
    violations: Mapping[str, int]
    requests: int
    uploaded: int
    leaks: Sequence[str]
    log_lines: int
