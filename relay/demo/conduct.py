"""How relay behaves: order, what is sent, who waits for whom, what it logs, how it ends. Pure."""

from typing import Final

from relay.demo.evidence import AppEvidence, Evidence
from relay.demo.row import Row, in_each, unless

EVENT_KEYS: Final = frozenset(
    {
        "event_type", "user_id", "device_id", "time", "insert_id", "language", "library",
        "event_properties",
    }
)  # fmt: skip
PROPERTY_KEYS: Final = frozenset(
    {
        "Distinct ID", "Message ID", "Message Name", "Message Title", "Message Contents",
        "message_type", "template_id", "subscription_id", "device_type", "language", "source",
        "page_name", "page_id", "target_name", "target_id", "failure_reason", "url",
    }
)  # fmt: skip
"""All that may be sent of an event, and all of its properties."""


def order_kept(evidence: Evidence) -> Row:
    """What a device did reaches Amplitude in the order of acceptance."""
    exempt = frozenset({evidence.measured.repaired})
    overtaken = in_each(evidence, lambda own: find_overtaken(own, exempt))
    lanes = sum(len(own.lanes) for own in evidence.apps)
    longest = max((len(lane) for own in evidence.apps for lane in own.lanes.values()), default=0)
    return Row(
        "",
        "the order of each device was kept",
        f"{lanes} devices, up to {longest} events each",
        overtaken,
    )


def find_overtaken(own: AppEvidence, exempt: frozenset[str]) -> list[str]:
    """Return events that arrived before one that was accepted before they were even sent."""
    found = []
    never = max(own.answered.values(), default=0) + 1
    for lane in own.lanes.values():
        earliest = never
        for name in reversed([name for name in lane if name not in exempt]):
            if own.first_sent.get(name, 0) > earliest:
                found.append(name)
            earliest = min(earliest, own.answered.get(name, never))
    return found


def nothing_forbidden(evidence: Evidence) -> Row:
    """Uploads hold the agreed fields and no others."""
    broken = [
        f"{rule}: {n} times" for rule, n in evidence.violations.items() if rule[:7] != "changed"
    ]
    odd = in_each(evidence, _odd_fields)
    events = sum(len(own.events) for own in evidence.apps)
    return Row(
        "",
        "no ip, event_id, upload time or other field was sent that is not agreed",
        f"{events} events looked through",
        (*broken, *odd),
    )


def _odd_fields(own: AppEvidence) -> list[str]:
    odd: set[str] = set()
    for event in own.events:
        odd |= event.keys() - EVENT_KEYS
        properties = event.get("event_properties")
        odd |= (properties.keys() if isinstance(properties, dict) else set()) - PROPERTY_KEYS
    return sorted(odd)


def late_are_whole(evidence: Evidence) -> Row:
    """Events that came without their message got it from earlier ones."""

    def bare(own: AppEvidence) -> list[str]:
        names = {str(event.get("insert_id")): _message_name(event) for event in own.events}
        return [
            f"{name} has not {text}"
            for name, text in own.late.items()
            if name in own.promised and names.get(name) != text
        ]

    late = sum(len(own.late.keys() & own.promised) for own in evidence.apps)
    culprits = in_each(evidence, bare)
    return Row(
        "",
        "events that came without their message have it",
        f"{late - len(culprits)} of {late}",
        culprits or unless(late > 0, "there were none"),
    )


def _message_name(event: dict[str, object]) -> object:
    properties = event.get("event_properties")
    return properties.get("Message Name") if isinstance(properties, dict) else None


def apps_are_apart(evidence: Evidence) -> Row:
    """One app's refused key is not felt by the other."""
    noted = evidence.measured
    return Row(
        "",
        "an app with a refused key halted alone and lost nothing",
        f"{noted.halted_s:.1f} s: {noted.halted_waiting} waited, "
        f"{noted.halted_delivered} of the other app arrived",
        unless(noted.halted_waiting > 0, "nothing waited")
        + unless(noted.halted_delivered > 0, "nothing of the other app arrived"),
    )


def devices_are_apart(evidence: Evidence) -> Row:
    """One throttled device is not felt by the others."""
    noted = evidence.measured
    return Row(
        "",
        "a throttled device waited alone",
        f"{noted.throttled_waiting} held, {noted.throttled_others} of others arrived",
        unless(noted.throttled_waiting > 0, "nothing was held")
        + unless(noted.throttled_others > 0, "nothing else arrived"),
    )


def log_is_clean(evidence: Evidence) -> Row:
    """The log holds no secret and nobody's id."""
    return Row(
        "",
        "no key, token, user or device stands in relay's log",
        f"{evidence.log_lines} lines",
        tuple(evidence.leaks) + unless(evidence.log_lines > 0, "there is no log"),
    )


def ended_in_order(evidence: Evidence) -> Row:
    """SIGTERM ended relay with exit code 0."""
    noted = evidence.measured
    return Row(
        "",
        "SIGTERM ended relay in order",
        f"exit code {noted.stop_code} after {noted.stop_s:.1f} s",
        unless(noted.stop_code == 0, f"exit code {noted.stop_code}"),
    )


def story_was_told(evidence: Evidence) -> Row:
    """Everything came that the acts waited for."""
    stuck = evidence.measured.stuck
    return Row("", "every act came to its end", "16 acts", unless(not stuck, stuck))
