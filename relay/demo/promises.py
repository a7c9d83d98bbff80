"""What becomes of events: none lost, none twice, none invented. Pure."""

from collections import Counter

from relay.demo.evidence import AppEvidence, Evidence
from relay.demo.row import Row, in_each, unless


def nothing_lost(evidence: Evidence) -> Row:
    """Every event answered 200 is at Amplitude or in the dead letters."""
    promised = sum(len(own.promised) for own in evidence.apps)
    stored = sum(len(own.promised & set(own.stored)) for own in evidence.apps)
    dead = sum(len((own.promised & own.dead.keys()) - set(own.stored)) for own in evidence.apps)
    lost = in_each(evidence, lambda own: sorted(own.promised - set(own.stored) - own.dead.keys()))
    return Row(
        "1",
        "every event answered 200 is at Amplitude or in the dead letters",
        f"{stored + dead} of {promised} ({stored} + {dead})",
        lost or unless(promised > 0, "no event was ever answered"),
    )


def outage_harmless(evidence: Evidence) -> Row:
    """Events were taken while Amplitude took none."""
    noted = evidence.measured
    latencies = sorted(ms for own in evidence.apps for ms in own.latencies_ms)
    p99 = latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0
    return Row(
        "1",
        "events were taken while Amplitude was down",
        f"{noted.outage_answered} in {noted.outage_s:.1f} s, {noted.outage_pending} waited on "
        f"disk; 99 % of all answers within {p99:.0f} ms",
        unless(noted.outage_answered > 0, "none was answered")
        + unless(noted.outage_stored == 0, f"Amplitude took {noted.outage_stored} in the outage"),
    )


def poison_is_dead(evidence: Evidence) -> Row:
    """Poison stands in the dead letters, each with its reason, and nothing else does."""
    expected, found = evidence.measured.poisoned, evidence.dead_once
    wrong = [
        f"{name}: {found.get(name, 'alive')} instead of {reason}"
        for name, reason in expected.items()
        if found.get(name) != reason
    ]
    wrong += [f"{name}: {found[name]}, and no poison" for name in found.keys() - expected.keys()]
    return Row(
        "1",
        "poison is in the dead letters with its reason, and took nobody with it",
        ", ".join(f"{n} {reason}" for reason, n in Counter(found.values()).items()),
        tuple(wrong) or unless(bool(expected), "there was no poison"),
    )


def repaired_arrived(evidence: Evidence) -> Row:
    """A dead letter that was tried again is at Amplitude and dead no more."""
    name = evidence.measured.repaired
    stored = any(name in own.stored for own in evidence.apps)
    dead = any(name in own.dead for own in evidence.apps)
    return Row(
        "1",
        "a dead letter tried again reached Amplitude",
        name[:8],
        unless(stored and not dead, f"{name} did not"),
    )


def quarantine_is_raw(evidence: Evidence) -> Row:
    """What could not be understood was answered 200 and kept to the byte."""

    def missing(own: AppEvidence) -> list[str]:
        lost = own.hostile_answered - own.quarantined
        added = own.quarantined - own.hostile_sent
        return [f"lost: {_head(body)}" for body in lost] + [f"not sent: {_head(b)}" for b in added]

    answered = sum(own.hostile_answered.total() for own in evidence.apps)
    kept = sum(own.quarantined.total() for own in evidence.apps)
    return Row(
        "1",
        "what could not be understood is in quarantine, byte for byte",
        f"{kept} kept, {answered} answered",
        in_each(evidence, missing) or unless(answered > 0, "nothing of that kind was sent"),
    )


def _head(body: bytes) -> str:
    return body[:60].decode(errors="replace")


def counted_once(evidence: Evidence) -> Row:
    """No insert_id is held twice."""
    twice = in_each(
        evidence,
        lambda own: sorted(name for name, times in Counter(own.stored).items() if times > 1),
    )
    stored = sum(len(own.stored) for own in evidence.apps)
    distinct = sum(len(set(own.stored)) for own in evidence.apps)
    suppressed = sum(own.suppressed for own in evidence.apps)
    repeated = sum(own.receipts.get("duplicate", 0) for own in evidence.apps)
    return Row(
        "2",
        "Amplitude counted each event once",
        f"{distinct} of {stored} distinct; {suppressed} repeated uploads told by insert_id, "
        f"{repeated} repeated deliveries recognised by relay",
        twice,
    )


def nothing_invented(evidence: Evidence) -> Row:
    """Amplitude holds nothing that OneSignal did not send."""
    strangers = in_each(evidence, lambda own: sorted(set(own.stored) - own.sent))
    stored = sum(len(own.stored) for own in evidence.apps)
    return Row("2", "Amplitude holds nothing that OneSignal did not send", f"{stored}", strangers)


def same_bytes(evidence: Evidence) -> Row:
    """A repeated upload of an event is the same to the byte."""
    changed = evidence.violations.get("changed_retry", 0)
    return Row(
        "2",
        "every attempt of an event had the same bytes",
        f"{evidence.uploaded} events in {evidence.requests} uploads",
        unless(changed == 0, f"{changed} attempts differ from the first"),
    )
