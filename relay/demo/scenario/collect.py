"""Collects the evidence of both sides, before and after relay's end."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relay.demo.environment import Environment
from relay.demo.evidence import AppEvidence, Evidence
from relay.demo.relay_process import DemoFailed
from relay.http.admin.schemas import AppStatusAnswer, DeadLetterAnswer, QuarantinedAnswer


@dataclass(frozen=True, slots=True)
class Answers:
    """Relay's own account at the end, before it was stopped.

    Attributes:
        counts: Of each app.
        dead: The dead letters.
        quarantine: The bodies that were not understood.
    """

    counts: Mapping[str, AppStatusAnswer]
    dead: Sequence[DeadLetterAnswer]
    quarantine: Sequence[QuarantinedAnswer]


async def ask_relay(env: Environment) -> Answers:
    """Return relay's own account.

    Raises:
        DemoFailed: If relay does not answer any more.
    """
    if env.status.latest is None:
        raise DemoFailed("relay does not answer any more")
    return Answers(env.status.latest.apps, await env.dead_letters(), await env.quarantine())


def collect(env: Environment, answers: Answers) -> Evidence:
    """Return the evidence, with relay's whole log."""
    ledger = env.stand_ins.amplitude.ledger
    log = env.process.log_path.read_text(encoding="utf-8", errors="replace")
    secrets = {secret: name for app in env.plan.apps for secret, name in app.secrets.items()}
    private_ids = env.plan.cohorts.private_ids.union(
        *(traffic.private_ids for traffic in env.plan.traffic.apps.values())
    )
    return Evidence(
        apps=[_collect_app(env, number, answers) for number in range(len(env.plan.apps))],
        notes=env.notes,
        samples=env.status.samples,
        violations=dict(ledger.violation_counts),
        requests=ledger.total_requests,
        uploaded=sum(line.events for line in ledger.requests),
        leaks=find_leaks(log, secrets, private_ids),
        log_lines=log.count("\n"),
    )


def _collect_app(env: Environment, number: int, answers: Answers) -> AppEvidence:
    app = env.plan.apps[number]
    recorder, account = env.stand_ins.deliveries[app.name], env.stand_ins.account(app)
    return AppEvidence(
        app=app.name,
        promised=recorder.promised,
        sent=recorder.sent,
        first_sent=recorder.first_sent,
        first_answered=recorder.first_answered,
        stored=account.insert_ids,
        device_order=account.device_order,
        events=account.events,
        suppressed=account.duplicates,
        dead={letter.insert_id: letter.reason for letter in answers.dead if letter.app == app.name},
        counts=answers.counts[app.name],
        receipts=recorder.receipts,
        unanswered=recorder.unanswered,
        latencies_ms=recorder.latencies_ms,
        unreadable_sent=recorder.unreadable_sent,
        unreadable_answered=recorder.unreadable_answered,
        quarantined=Counter(
            body.body.encode() for body in answers.quarantine if body.app == app.name
        ),
        late=env.plan.traffic.apps[app.name].late,
    )


def find_leaks(log: str, secrets: Mapping[str, str], private_ids: Iterable[str]) -> list[str]:
    """Return what a log must not hold but does: secrets by their names, ids as they are."""
    leaked = [name for secret, name in secrets.items() if secret in log]
    return leaked + sorted(text for text in private_ids if text in log)
