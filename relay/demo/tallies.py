"""Relay's own numbers, held against those of both stand-ins. Pure."""

from itertools import pairwise
from typing import Final

from relay.demo.evidence import AppEvidence, Evidence, Look
from relay.demo.row import Row, in_each, unless

_NEVER_LESS: Final = ("accepted", "delivered", "discarded", "duplicate", "filtered", "quarantined")


def counts_add_up(evidence: Evidence) -> Row:
    """At every look the numbers were true."""
    wrong = tuple(text for look in evidence.looks for text in judge_look(look))
    lives = len({look.life for look in evidence.looks})
    return Row(
        "4",
        "accepted = pending + delivered + dead + discarded, and true on both sides",
        f"at {len(evidence.looks)} looks, over {lives} starts",
        wrong or unless(bool(evidence.looks), "nobody looked"),
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
    noted = evidence.measured
    lives = [
        (old, new)
        for own in evidence.apps
        for old, new in pairwise(look for look in evidence.looks if look.app == own.app)
        if old.life != new.life
    ]
    shrunk = [
        f"{old.app}: {name} was {was} and is {now}"
        for old, new in lives
        for name in _NEVER_LESS
        if (was := getattr(old.counts, name)) > (now := getattr(new.counts, name))
    ]
    accepted = ", ".join(f"{o.app} {o.counts.accepted} -> {n.counts.accepted}" for o, n in lives)
    return Row(
        "4",
        "SIGKILL took nothing from the numbers",
        f"{noted.kills} times, ready again within {noted.restart_s:.1f} s; {noted.kill_open} "
        f"requests were open, {noted.kill_in_flight} events in flight; accepted {accepted}",
        tuple(shrunk)
        or unless(
            len(lives) == noted.kills * len(evidence.apps) > 0, "not every SIGKILL was looked at"
        ),
    )


def final_counts(evidence: Evidence) -> Row:
    """In the end relay's numbers are those of the stand-ins."""
    counts = [own.counts for own in evidence.apps]
    return Row(
        "4",
        "in the end relay's numbers are those of both stand-ins",
        ", ".join(
            f"{sum(getattr(own, name) for own in counts)} {name}"
            for name in ("accepted", "delivered", "dead", "filtered")
        ),
        in_each(evidence, _judge_final),
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
