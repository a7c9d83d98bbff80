"""What the demo found out, as plain facts: recorded by the scenario, judged by the checks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.demo.expected import Members
from relay.demo.recorder import DeliveryRecorder
from relay.http.admin.schemas import AppStatusAnswer
from relay.sandbox.amplitude.ledger import Account


class StandInCounts(NamedTuple):
    """What the stand-ins know of one app at an instant."""

    promised: int  # events answered 200 that must reach Amplitude
    sent: int  # events that may have reached relay
    stored: int  # distinct events Amplitude holds


class StatusSample(NamedTuple):
    """Relay's counts of one app, between what the stand-ins knew before and after."""

    app: str
    start: int  # which start of relay answered, from 1
    before: StandInCounts
    counts: AppStatusAnswer
    after: StandInCounts


@dataclass(frozen=True, slots=True)
class AppEvidence:
    """All sides of one app, at the end."""

    app: str
    deliveries: DeliveryRecorder  # OneSignal's side
    account: Account  # Amplitude's side
    counts: AppStatusAnswer  # relay's own
    dead: Mapping[str, str]  # dead letters: insert id to reason
    quarantined: Counter[bytes]
    late: Mapping[str, str]  # planned: id of an event without its message, to the message's name

    @property
    def promised(self) -> set[str]:
        """Ids of events answered 200 that must reach Amplitude."""
        return self.deliveries.promised

    @property
    def stored(self) -> set[str]:
        """Ids of the distinct events at Amplitude."""
        return set(self.account.insert_ids)


class Comparison(NamedTuple):
    """The members of a segment at the end of a step, by both services' data and by the view."""

    step: str
    cohort_id: str
    expected: Members
    seen: Members


class Explained(NamedTuple):
    """The numbers of an explanation, by both services' data and by relay."""

    step: str
    expected: Mapping[str, int]
    given: Mapping[str, int]


@dataclass(slots=True)
class SegmentHistory:
    """What another program saw in the segment views."""

    readings: int = 0
    seen: dict[str, list[Members]] = field(default_factory=dict)  # by cohort, no repetitions
    changes: Counter[str] = field(default_factory=Counter)  # by cohort
    contradictions: list[str] = field(default_factory=list)  # between views
    errors: list[str] = field(default_factory=list)  # of readings that failed


@dataclass(slots=True)
class SegmentNotes:
    """What the segment steps noted."""

    comparisons: list[Comparison] = field(default_factory=list)
    explained: list[Explained] = field(default_factory=list)
    revisions: dict[str, list[Members]] = field(default_factory=dict)  # all expected, by cohort
    failed_files: dict[str, str] = field(default_factory=dict)  # what was wrong, why the run failed
    missing_state: str = ""  # of the segment whose cohort was gone from the list
    held_reason: str = ""
    held_leavers: int = 0
    messages: int = 0  # of the webhook, without repetitions
    deliveries: int = 0  # of messages, answered 200
    undelivered: int = 0  # answered otherwise
    exports_killed: int = 0  # that ran when relay was killed
    exports_repeated: int = 0  # asked for after that


@dataclass(slots=True)
class Notes:
    """What the steps noted; counts are of events where nothing else is said."""

    timeout: str = ""  # what a step waited for in vain; empty if every step completed
    halted_s: float = 0.0  # how long the smaller app's key was refused
    halted_waiting: int = 0  # of the smaller app, meanwhile
    halted_delivered: int = 0  # of the larger app, meanwhile
    outage_s: float = 0.0  # how long Amplitude took nothing
    outage_answered: int = 0  # requests answered 200 meanwhile
    outage_pending: int = 0  # on relay's disk at the end of it
    outage_stored: int = 0  # at Amplitude meanwhile: more than 0, and it was no outage
    throttled_waiting: int = 0  # of the throttled device
    throttled_others: int = 0  # of all others, delivered meanwhile
    poisoned: Mapping[str, str] = field(default_factory=dict)  # insert id to expected reason
    dead_before_retry: Mapping[str, str] = field(default_factory=dict)  # insert id to reason
    retried: str = ""  # insert id of the dead letter that was retried
    kills: int = 0  # SIGKILLs
    kill_open: int = 0  # requests of OneSignal that were open then
    kill_in_flight: int = 0  # in uploads then
    restart_s: float = 0.0  # from a SIGKILL until relay was ready again, at most
    stop_s: float = 0.0  # from SIGTERM to the end
    stop_code: int | None = None
    segments: SegmentNotes = field(default_factory=SegmentNotes)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the checks judge."""

    apps: Sequence[AppEvidence]
    notes: Notes
    history: SegmentHistory
    samples: Sequence[StatusSample]  # in order
    violations: Mapping[str, int]  # rules broken in uploads, with the number of times
    requests: int  # uploads Amplitude saw
    uploaded: int  # events in them
    leaks: Sequence[str]  # secrets and ids found in relay's log
    log_lines: int
