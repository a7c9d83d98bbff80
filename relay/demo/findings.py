"""Gathers the facts of both sides from the stage, once relay has ended."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relay.demo.evidence import AppEvidence, Evidence, Measured
from relay.demo.stage import Stage
from relay.http.admin.schemas import AppStatusAnswer, DeadLetterAnswer, QuarantinedAnswer


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
    secrets |= {app.secret_key: f"the Amplitude secret key of {app.name}" for app in stage.apps}
    secrets |= {app.onesignal_key: f"the OneSignal key of {app.name}" for app in stage.apps}
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
