"""Checks on events: none lost, none twice, none invented, in order. Pure."""

from collections import Counter
from typing import Final

from relay.demo.checks.result import Result, in_each, unless
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
    stored = sum(len(own.promised & set(own.stored)) for own in evidence.apps)
    dead = sum(len((own.promised & own.dead.keys()) - set(own.stored)) for own in evidence.apps)
    lost = in_each(evidence, lambda own: sorted(own.promised - set(own.stored) - own.dead.keys()))
    return Result(
        f"{stored + dead} of {promised} ({stored} + {dead})",
        lost or unless(promised > 0, "no event was answered 200"),
    )


def poison_dead_lettered(evidence: Evidence) -> Result:
    """Poison is in the dead letters, each with its reason, and nothing else is."""
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
    """A retried dead letter is at Amplitude, and no dead letter any more."""
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
    """What could not be understood was answered 200 and kept to the byte."""

    def differences(own: AppEvidence) -> list[str]:
        # An attempt without an answer may be in quarantine or not: both are right.
        lost = own.unreadable_answered - own.quarantined
        added = own.quarantined - own.unreadable_sent
        return [f"lost: {_head(body)}" for body in lost] + [f"not sent: {_head(b)}" for b in added]

    answered = sum(own.unreadable_answered.total() for own in evidence.apps)
    kept = sum(own.quarantined.total() for own in evidence.apps)
    return Result(
        f"{kept} kept, {answered} answered",
        in_each(evidence, differences) or unless(answered > 0, "nothing of that kind was sent"),
    )


def _head(body: bytes) -> str:
    return body[:_BODY_SHOWN].decode(errors="replace")


def counted_once(evidence: Evidence) -> Result:
    """Amplitude holds no insert_id twice."""
    twice = in_each(
        evidence,
        lambda own: sorted(name for name, times in Counter(own.stored).items() if times > 1),
    )
    stored = sum(len(own.stored) for own in evidence.apps)
    distinct = sum(len(set(own.stored)) for own in evidence.apps)
    suppressed = sum(own.suppressed for own in evidence.apps)
    repeated = sum(own.receipts.get("duplicate", 0) for own in evidence.apps)
    return Result(
        f"{distinct} of {stored} distinct; {suppressed} repeated uploads recognised by "
        f"insert_id, {repeated} repeated deliveries recognised by relay",
        twice,
    )


def nothing_invented(evidence: Evidence) -> Result:
    """Amplitude holds nothing that OneSignal did not send."""
    unknown = in_each(evidence, lambda own: sorted(set(own.stored) - own.sent))
    return Result(f"{sum(len(own.stored) for own in evidence.apps)}", unknown)


def same_bytes(evidence: Evidence) -> Result:
    """Every attempt of an event has the same bytes."""
    changed = evidence.violations.get("changed_retry", 0)
    return Result(
        f"{evidence.uploaded} events in {evidence.requests} uploads",
        unless(changed == 0, f"{changed} attempts differ from the first"),
    )


def order_kept(evidence: Evidence) -> Result:
    """Events of one device reach Amplitude in the order of acceptance."""
    # A retried dead letter goes to the end of the queue; that is no fault.
    exempt = frozenset({evidence.notes.retried})
    overtaking = in_each(evidence, lambda own: _find_overtaking(own, exempt))
    devices = [names for own in evidence.apps for names in own.device_order.values()]
    longest = max(map(len, devices), default=0)
    return Result(f"{len(devices)} devices, up to {longest} events each", overtaking)


def _find_overtaking(own: AppEvidence, exempt: frozenset[str]) -> list[str]:
    """Return events that arrived before one that was accepted before they were even sent.

    Events under way at the same time have no order.
    """
    found = []
    never = max(own.first_answered.values(), default=0) + 1
    for names in own.device_order.values():
        earliest = never  # step at which one of the later arrivals was accepted
        for name in reversed([name for name in names if name not in exempt]):
            if own.first_sent.get(name, 0) > earliest:
                found.append(name)
            earliest = min(earliest, own.first_answered.get(name, never))
    return found


def no_forbidden_fields(evidence: Evidence) -> Result:
    """Uploads hold the agreed fields and no others."""
    broken = [
        f"{rule}: {n} times" for rule, n in evidence.violations.items() if rule != "changed_retry"
    ]
    events = sum(len(own.events) for own in evidence.apps)
    return Result(f"{events} events checked", (*broken, *in_each(evidence, _unknown_fields)))


def _unknown_fields(own: AppEvidence) -> list[str]:
    unknown: set[str] = set()
    for event in own.events:
        unknown |= event.keys() - _EVENT_KEYS
        properties = event.get("event_properties")
        unknown |= (properties.keys() if isinstance(properties, dict) else set()) - _PROPERTY_KEYS
    return sorted(unknown)


def late_completed(evidence: Evidence) -> Result:
    """Events that came without their message got it from earlier ones."""

    def incomplete(own: AppEvidence) -> list[str]:
        names = {str(event.get("insert_id")): _message_name(event) for event in own.events}
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
