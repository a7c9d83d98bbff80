"""The proof: facts of both sides in, one row for each promise out. Pure.

Nothing here asks relay whether it did well. Rows compare what OneSignal's stand-in was
promised with what Amplitude's stand-in holds; relay's own numbers are held against both.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.demo.evidence import AppEvidence, Evidence
from relay.demo.watch import Look

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


@dataclass(frozen=True, slots=True)
class Row:
    """One promise, held or not.

    Attributes:
        number: Of the contract's promise; empty for what follows from none of them alone.
        promise: In plain words.
        figures: What was measured.
        culprits: What broke it; nothing if it held.
    """

    number: str
    promise: str
    figures: str
    culprits: tuple[str, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether the promise held."""
        return not self.culprits


def prove(evidence: Evidence) -> list[Row]:
    """Return a row for every promise."""
    return [rule(evidence) for rule in RULES]


def _each(evidence: Evidence, find: Callable[[AppEvidence], Iterable[str]]) -> tuple[str, ...]:
    """Return what `find` finds in every app, each with the app's name."""
    return tuple(f"{own.app}: {found}" for own in evidence.apps for found in find(own))


def _unless(holds: bool, why: str) -> tuple[str, ...]:  # noqa: FBT001 - reads as a sentence
    return () if holds else (why,)


def nothing_lost(evidence: Evidence) -> Row:
    """Every event answered 200 is at Amplitude or in the dead letters."""
    promised = sum(len(own.promised) for own in evidence.apps)
    stored = sum(len(own.promised & set(own.stored)) for own in evidence.apps)
    dead = sum(len((own.promised & own.dead.keys()) - set(own.stored)) for own in evidence.apps)
    lost = _each(evidence, lambda own: sorted(own.promised - set(own.stored) - own.dead.keys()))
    return Row(
        "1",
        "every event answered 200 is at Amplitude or in the dead letters",
        f"{stored + dead} of {promised} ({stored} + {dead})",
        lost or _unless(promised > 0, "no event was ever answered"),
    )


def counted_once(evidence: Evidence) -> Row:
    """No insert_id is held twice."""
    twice = _each(
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
    strangers = _each(evidence, lambda own: sorted(set(own.stored) - own.sent))
    stored = sum(len(own.stored) for own in evidence.apps)
    return Row("2", "Amplitude holds nothing that OneSignal did not send", f"{stored}", strangers)


def same_bytes(evidence: Evidence) -> Row:
    """A repeated upload of an event is the same to the byte."""
    changed = evidence.violations.get("changed_retry", 0)
    return Row(
        "2",
        "every attempt of an event had the same bytes",
        f"{evidence.uploaded} events in {evidence.requests} uploads",
        _unless(changed == 0, f"{changed} attempts differ from the first"),
    )


def counts_add_up(evidence: Evidence) -> Row:
    """At every look the numbers were true."""
    wrong = tuple(text for look in evidence.looks for text in judge_look(look))
    lives = len({look.life for look in evidence.looks})
    return Row(
        "4",
        "accepted = pending + delivered + dead + discarded, and true on both sides",
        f"at {len(evidence.looks)} looks, over {lives} starts",
        wrong or _unless(bool(evidence.looks), "nobody looked"),
    )


def judge_look(look: Look) -> list[str]:
    """Return what is wrong with the numbers of one look."""
    counts, before, after = look.counts, look.before, look.after
    total = counts.pending + counts.delivered + counts.dead + counts.discarded
    checks = {
        f"accepted {counts.accepted} is not {total}": counts.accepted == total,
        f"accepted {counts.accepted}, but {before.promised} were answered 200": (
            counts.accepted >= before.promised
        ),
        f"accepted {counts.accepted}, but only {after.sent} were sent": (
            counts.accepted <= after.sent
        ),
        f"delivered {counts.delivered}, but Amplitude holds {after.stored}": (
            counts.delivered <= after.stored
        ),
    }
    return [f"{look.app}, start {look.life}: {text}" for text, holds in checks.items() if not holds]


def counts_survive(evidence: Evidence) -> Row:
    """No number went back at a SIGKILL."""
    shrunk: list[str] = []
    shown: list[str] = []
    for own in evidence.apps:
        looks = [look for look in evidence.looks if look.app == own.app]
        pairs = [
            (old, new) for old, new in zip(looks, looks[1:], strict=False) if old.life != new.life
        ]
        for old, new in pairs:
            shown.append(f"{own.app} {old.counts.accepted} → {new.counts.accepted}")
            shrunk += [
                f"{own.app}: {name} was {was} and is {now}"
                for name in ("accepted", "delivered", "discarded", "quarantined", "duplicate")
                if (was := getattr(old.counts, name)) > (now := getattr(new.counts, name))
            ]
    return Row(
        "4",
        "SIGKILL took nothing from the numbers",
        f"accepted {', '.join(shown)}; again ready after {evidence.measured.restart_s:.1f} s; "
        f"{evidence.measured.kill_open} requests were open, "
        f"{evidence.measured.kill_in_flight} events in flight",
        tuple(shrunk) or _unless(bool(shown), "there was no look on both sides of it"),
    )


def final_counts(evidence: Evidence) -> Row:
    """In the end relay's numbers are those of the stand-ins."""
    counts = [own.counts for own in evidence.apps]
    return Row(
        "4",
        "in the end relay's numbers are those of both stand-ins",
        f"{sum(own.accepted for own in counts)} accepted, "
        f"{sum(own.delivered for own in counts)} delivered, {sum(own.dead for own in counts)} dead, "
        f"{sum(own.filtered for own in counts)} filtered",
        _each(evidence, _judge_final),
    )


def _judge_final(own: AppEvidence) -> list[str]:
    counts = own.counts
    checks = {
        f"{counts.pending} still pending": counts.pending == 0,
        f"delivered {counts.delivered}, Amplitude holds {len(set(own.stored))}": (
            counts.delivered == len(set(own.stored))
        ),
        f"dead {counts.dead}, listed {len(own.dead)}": counts.dead == len(own.dead),
    }
    for name in ("accepted", "duplicate", "filtered", "quarantined"):
        told, is_now = own.receipts.get(name, 0), getattr(counts, name)
        checks[f"{name} {is_now}, answers told {told} ({own.unanswered} never came)"] = (
            told <= is_now <= told + own.unanswered
        )
    return [text for text, holds in checks.items() if not holds]


def order_kept(evidence: Evidence) -> Row:
    """What a device did reaches Amplitude in the order of acceptance."""
    exempt = frozenset({evidence.measured.repaired})
    overtaken = _each(evidence, lambda own: find_overtaken(own, exempt))
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
    broken = [f"{rule}: {n} times" for rule, n in evidence.violations.items() if rule[:7] != "changed"]
    odd = _each(evidence, _odd_fields)
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
        _each(evidence, missing) or _unless(answered > 0, "nothing of that kind was sent"),
    )


def _head(body: bytes) -> str:
    return body[:60].decode(errors="replace")


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
        tuple(wrong) or _unless(bool(expected), "there was no poison"),
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
        _unless(stored and not dead, f"{name} did not"),
    )


def outage_harmless(evidence: Evidence) -> Row:
    """Events were taken while Amplitude took none."""
    noted = evidence.measured
    latencies = sorted(ms for own in evidence.apps for ms in own.latencies_ms)
    p99 = latencies[int(0.99 * (len(latencies) - 1))] if latencies else 0.0
    return Row(
        "1",
        "events were taken while Amplitude was down",
        f"{noted.outage_answered} in {noted.outage_s:.1f} s, {noted.outage_pending} waited on disk; "
        f"99 % of all answers within {p99:.0f} ms",
        _unless(noted.outage_answered > 0, "none was answered")
        + _unless(noted.outage_stored == 0, f"Amplitude took {noted.outage_stored} in the outage"),
    )


def apps_are_apart(evidence: Evidence) -> Row:
    """One app's refused key is not felt by the other."""
    noted = evidence.measured
    return Row(
        "",
        "an app with a refused key halted alone and lost nothing",
        f"{noted.halted_s:.1f} s: {noted.halted_waiting} waited, "
        f"{noted.halted_delivered} of the other app arrived",
        _unless(noted.halted_waiting > 0, "nothing waited")
        + _unless(noted.halted_delivered > 0, "nothing of the other app arrived"),
    )


def devices_are_apart(evidence: Evidence) -> Row:
    """One throttled device is not felt by the others."""
    noted = evidence.measured
    return Row(
        "",
        "a throttled device waited alone",
        f"{noted.throttled_waiting} held, {noted.throttled_others} of others arrived",
        _unless(noted.throttled_waiting > 0, "nothing was held")
        + _unless(noted.throttled_others > 0, "nothing else arrived"),
    )


def late_are_whole(evidence: Evidence) -> Row:
    """Events that came without their message got it from earlier ones."""

    def bare(own: AppEvidence) -> list[str]:
        names = {str(event.get("insert_id")): _message_name(event) for event in own.events}
        return [f"{name} has not {text}" for name, text in own.late.items() if names.get(name) != text]

    late = sum(len(own.late) for own in evidence.apps)
    culprits = _each(evidence, bare)
    return Row(
        "",
        "events that came without their message have it",
        f"{late - len(culprits)} of {late}",
        culprits,
    )


def _message_name(event: dict[str, object]) -> object:
    properties = event.get("event_properties")
    return properties.get("Message Name") if isinstance(properties, dict) else None


def log_is_clean(evidence: Evidence) -> Row:
    """The log holds no secret and nobody's id."""
    return Row(
        "",
        "no key, token, user or device stands in relay's log",
        f"{evidence.log_lines} lines",
        tuple(evidence.leaks) + _unless(evidence.log_lines > 0, "there is no log"),
    )


def ended_in_order(evidence: Evidence) -> Row:
    """SIGTERM ended relay with exit code 0."""
    noted = evidence.measured
    return Row(
        "",
        "SIGTERM ended relay in order",
        f"exit code {noted.stop_code} after {noted.stop_s:.1f} s",
        _unless(noted.stop_code == 0, f"exit code {noted.stop_code}"),
    )


RULES: Final[Sequence[Callable[[Evidence], Row]]] = (
    nothing_lost,
    outage_harmless,
    poison_is_dead,
    repaired_arrived,
    quarantine_is_raw,
    counted_once,
    nothing_invented,
    same_bytes,
    counts_add_up,
    counts_survive,
    final_counts,
    order_kept,
    nothing_forbidden,
    late_are_whole,
    apps_are_apart,
    devices_are_apart,
    log_is_clean,
    ended_in_order,
)
"""In the order of the table. Promise 3 is about segments, and they are not part of this story."""
