"""What the demo found out, as plain facts; gathered here, judged in `proof`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from relay.demo.stage import Stage
from relay.demo.watch import Look
from relay.doors.admin.models import AppStatusAnswer, DeadLetterAnswer, QuarantinedAnswer
from relay.sandbox.answers import JsonObject


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
        kill_open: Requests of OneSignal under way at the SIGKILL.
        kill_in_flight: Events in uploads under way at the SIGKILL.
        restart_s: From the SIGKILL until relay took events again.
        repaired: Insert id of the dead letter that was tried again.
        stop_s: From SIGTERM to the end.
        stop_code: Exit code then.
        before_kill: Relay's numbers of each app in the last look before the SIGKILL.
        dead: Insert id to reason of all dead letters before the repair.
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
    poisoned: Mapping[str, str] = {}
    kill_open: int = 0
    kill_in_flight: int = 0
    restart_s: float = 0.0
    repaired: str = ""
    stop_s: float = 0.0
    stop_code: int | None = None


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


@dataclass(frozen=True, slots=True)
class Answers:
    """What relay's admin door said at the end, before relay was stopped.

    Attributes:
        counts: Of every app.
        dead_once: The dead letters before one was repaired.
        dead: The dead letters after it.
        quarantine: What relay did not understand.
    """

    counts: Mapping[str, AppStatusAnswer]
    dead_once: Sequence[DeadLetterAnswer]
    dead: Sequence[DeadLetterAnswer]
    quarantine: Sequence[QuarantinedAnswer]


def gather(stage: Stage, measured: Measured, answers: Answers) -> Evidence:
    """Return the facts of both sides."""
    ledger = stage.sandbox.amplitude.ledger
    log = stage.process.log_path.read_text(encoding="utf-8", errors="replace")
    secrets = {app.token: f"the hook token of {app.name}" for app in stage.apps}
    secrets |= {app.api_key: f"the Amplitude key of {app.name}" for app in stage.apps}
    return Evidence(
        apps=[_app_evidence(stage, number, answers) for number in range(len(stage.apps))],
        measured=measured,
        looks=stage.watch.looks,
        dead_once={letter.insert_id: letter.reason for letter in answers.dead_once},
        violations=dict(ledger.violation_counts),
        requests=ledger.total_requests,
        uploaded=sum(line.events for line in ledger.requests),
        leaks=find_leaks(log, secrets, stage.script.private),
        log_lines=log.count("\n"),
    )


def _app_evidence(stage: Stage, number: int, answers: Answers) -> AppEvidence:
    app = stage.apps[number]
    journal, account = stage.journals[app.name], stage.account(app)
    return AppEvidence(
        app=app.name,
        promised=journal.promised,
        sent=journal.sent,
        first_sent=journal.first_sent,
        answered=journal.answered,
        stored=account.insert_ids,
        lanes=account.device_order,
        events=account.events,
        suppressed=account.duplicates,
        dead={letter.insert_id: letter.reason for letter in answers.dead if letter.app == app.name},
        counts=answers.counts[app.name],
        receipts=journal.receipts,
        unanswered=journal.unanswered,
        latencies_ms=journal.latencies_ms,
        hostile_sent=journal.hostile_sent,
        hostile_answered=journal.hostile_answered,
        quarantined=Counter(
            body.body.encode() for body in answers.quarantine if body.app == app.name
        ),
        late=stage.script.late[app.name],
    )


def find_leaks(log: str, secrets: Mapping[str, str], private: Iterable[str]) -> list[str]:
    """Return what a log tells that it must not: secrets by what they are, ids as they are."""
    told = [name for secret, name in secrets.items() if secret in log]
    return told + sorted(text for text in private if text in log)
