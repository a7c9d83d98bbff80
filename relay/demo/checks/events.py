"""Checks on events: none lost, none twice, none invented, in order. Pure."""

from collections import Counter
from typing import Final

from relay.demo.checks import Result, in_each, unless
from relay.demo.evidence import AppEvidence, Evidence

_EVENT_KEYS: Final = frozenset(
    {
        "event_type", "user_id", "device_id", "time", "insert_id", "language", "library",
        "event_properties",
    }
)  # fmt: skip
_PROPERTY_KEYS: Final = frozenset(
    {
        "Distinct ID", "Message ID", "Message Name", "Message Title", "Message Contents",
        "message_type", "template_id", "subscription_id", "device_type", "language", "source",
        "page_name", "page_id", "target_name", "target_id", "failure_reason", "url",
    }
)  # fmt: skip
"""All fields an uploaded event may have, and all of its properties."""

_BODY_SHOWN: Final = 60


def nothing_lost(evidence: Evidence) -> Result:
    """Every event answered 200 is at Amplitude or in the dead letters."""
    promised = sum(len(own.promised) for own in evidence.apps)
    stored = sum(len(own.promised & own.stored) for own in evidence.apps)
    dead = sum(len((own.promised & own.dead.keys()) - own.stored) for own in evidence.apps)
    lost = in_each(evidence, lambda own: sorted(own.promised - own.stored - own.dead.keys()))
    return Result(
        f"{stored + dead} of {promised} ({stored} + {dead})",
        lost or unless(promised > 0, "no event was answered 200"),
    )


def poison_dead_lettered(evidence: Evidence) -> Result:
    """Poison is in the dead letters with its reason, and nothing else is."""
    expected, found = evidence.notes.poisoned, evidence.notes.dead_before_retry
    wrong = [
        f"{name}: {found.get(name, 'alive')} instead of {reason}"
        for name, reason in expected.items()
        if found.get(name) != reason
    ]
    wrong += [f"{name}: {found[name]}, and no poison" for name in found.keys() - expected.keys()]
    return Result(
        ", ".join(f"{n} {reason}" for reason, n in Counter(found.values()).items()),
        tuple(wrong) or unless(bool(expected), "there was no poison"),
    )


def retried_arrived(evidence: Evidence) -> Result:
    """A retried dead letter reached Amplitude."""
    name = evidence.notes.retried
    is_stored = any(name in own.stored for own in evidence.apps)
    is_dead = any(name in own.dead for own in evidence.apps)
    return Result(
        name[:8] or "none",
        unless(bool(name), "no dead letter was retried")
        + unless(is_stored, "it did not arrive")
        + unless(not is_dead, "it is still a dead letter"),
    )


def quarantine_is_raw(evidence: Evidence) -> Result:
    """What could not be understood is in quarantine, byte for byte."""

    def differences(own: AppEvidence) -> list[str]:
        # An attempt without an answer may be in quarantine or not: both are right.
        lost = own.deliveries.unreadable_answered - own.quarantined
        added = own.quarantined - own.deliveries.unreadable_sent
        return [f"lost: {_head(body)}" for body in lost] + [f"not sent: {_head(b)}" for b in added]

    answered = sum(own.deliveries.unreadable_answered.total() for own in evidence.apps)
    kept = sum(own.quarantined.total() for own in evidence.apps)
    return Result(
        f"{kept} kept, {answered} answered",
        in_each(evidence, differences) or unless(answered > 0, "nothing of that kind was sent"),
    )


def _head(body: bytes) -> str:
    return body[:_BODY_SHOWN].decode(errors="replace")


def counted_once(evidence: Evidence) -> Result:
    """Amplitude counted each event once."""

    def twice(own: AppEvidence) -> list[str]:
        return sorted(name for name, n in Counter(own.account.insert_ids).items() if n > 1)

    stored = sum(len(own.account.insert_ids) for own in evidence.apps)
    distinct = sum(len(own.stored) for own in evidence.apps)
    suppressed = sum(own.account.duplicates for own in evidence.apps)
    repeated = sum(own.deliveries.receipts.get("duplicate", 0) for own in evidence.apps)
    return Result(
        f"{distinct} of {stored} distinct; {suppressed} repeated uploads recognised by "
        f"insert_id, {repeated} repeated deliveries recognised by relay",
        in_each(evidence, twice),
    )


def nothing_invented(evidence: Evidence) -> Result:
    """Amplitude holds nothing that OneSignal did not send."""
    unknown = in_each(evidence, lambda own: sorted(own.stored - own.deliveries.sent))
    return Result(f"{sum(len(own.account.insert_ids) for own in evidence.apps)}", unknown)


def same_bytes(evidence: Evidence) -> Result:
    """Every attempt of an event had the same bytes."""
    changed = evidence.violations.get("changed_retry", 0)
    return Result(
        f"{evidence.uploaded} events in {evidence.requests} uploads",
        unless(changed == 0, f"{changed} attempts differ from the first"),
    )


def order_kept(evidence: Evidence) -> Result:
    """The order of each device was kept."""
    # A retried dead letter goes to the end of the queue; that is no fault.
    exempt = frozenset({evidence.notes.retried})
    overtaking = in_each(evidence, lambda own: _find_overtaking(own, exempt))
    devices = [names for own in evidence.apps for names in own.account.device_order.values()]
    longest = max(map(len, devices), default=0)
    return Result(f"{len(devices)} devices, up to {longest} events each", overtaking)


def _find_overtaking(own: AppEvidence, exempt: frozenset[str]) -> list[str]:
    """Return events that arrived before one that was accepted before they were even sent.

    Events under way at the same time have no order.
    """
    found = []
    never = max(own.deliveries.first_answered.values(), default=0) + 1
    for names in own.account.device_order.values():
        earliest = never  # step at which one of the later arrivals was accepted
        for name in reversed([name for name in names if name not in exempt]):
            if own.deliveries.first_sent.get(name, 0) > earliest:
                found.append(name)
            earliest = min(earliest, own.deliveries.first_answered.get(name, never))
    return found


def no_forbidden_fields(evidence: Evidence) -> Result:
    """No ip, event_id, upload time or other field was sent that is not agreed."""
    broken = [
        f"{rule}: {n} times" for rule, n in evidence.violations.items() if rule != "changed_retry"
    ]
    events = sum(len(own.account.events) for own in evidence.apps)
    return Result(f"{events} events checked", (*broken, *in_each(evidence, _unknown_fields)))


def _unknown_fields(own: AppEvidence) -> list[str]:
    unknown: set[str] = set()
    for event in own.account.events:
        unknown |= event.keys() - _EVENT_KEYS
        properties = event.get("event_properties")
        unknown |= (properties.keys() if isinstance(properties, dict) else set()) - _PROPERTY_KEYS
    return sorted(unknown)


def late_completed(evidence: Evidence) -> Result:
    """Events that came without their message have it."""

    def incomplete(own: AppEvidence) -> list[str]:
        names = {str(event.get("insert_id")): _message_name(event) for event in own.account.events}
        return [
            f"{name} has not {text}"
            for name, text in own.late.items()
            if name in own.promised and names.get(name) != text
        ]

    late = sum(len(own.late.keys() & own.promised) for own in evidence.apps)
    failures = in_each(evidence, incomplete)
    return Result(
        f"{late - len(failures)} of {late}", failures or unless(late > 0, "there were none")
    )


def _message_name(event: dict[str, object]) -> object:
    properties = event.get("event_properties")
    return properties.get("Message Name") if isinstance(properties, dict) else None


def outage_harmless(evidence: Evidence) -> Result:
    """Events were accepted while Amplitude was down."""
    notes = evidence.notes
    latencies = sorted(ms for own in evidence.apps for ms in own.deliveries.latencies_ms)
    p99 = latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0
    return Result(
        f"{notes.outage_answered} in {notes.outage_s:.1f} s, {notes.outage_pending} waited on "
        f"disk; 99 % of all answers within {p99:.0f} ms",
        unless(notes.outage_answered > 0, "none was answered")
        + unless(notes.outage_stored == 0, f"Amplitude took {notes.outage_stored} in the outage"),
    )


def apps_are_independent(evidence: Evidence) -> Result:
    """An app with a refused key halted alone and lost nothing."""
    notes = evidence.notes
    return Result(
        f"{notes.halted_s:.1f} s: {notes.halted_waiting} waited, "
        f"{notes.halted_delivered} of the other app arrived",
        unless(notes.halted_waiting > 0, "nothing waited")
        + unless(notes.halted_delivered > 0, "nothing of the other app arrived"),
    )


def devices_are_independent(evidence: Evidence) -> Result:
    """A throttled device waited alone."""
    notes = evidence.notes
    return Result(
        f"{notes.throttled_waiting} held, {notes.throttled_others} of others arrived",
        unless(notes.throttled_waiting > 0, "nothing was held")
        + unless(notes.throttled_others > 0, "nothing else arrived"),
    )
