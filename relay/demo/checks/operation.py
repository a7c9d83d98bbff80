"""Checks on relay as a whole: its counts against the stand-ins', its log, its end. Pure."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from relay.demo.checks import Result, in_each, unless
from relay.demo.evidence import AppEvidence, Evidence, StatusSample

_NEVER_LESS: Final = ("accepted", "delivered", "discarded", "duplicate", "filtered", "quarantined")


def counts_add_up(evidence: Evidence) -> Result:
    """Accepted = pending + delivered + dead + discarded, and true on both sides."""
    wrong = tuple(text for sample in evidence.samples for text in judge_sample(sample))
    starts = len({sample.start for sample in evidence.samples})
    return Result(
        f"{len(evidence.samples)} samples, over {starts} starts",
        wrong or unless(bool(evidence.samples), "there was no sample"),
    )


def judge_sample(sample: StatusSample) -> list[str]:
    """Return what is wrong with the counts of a sample.

    Relay's answer was made between `before` and `after`: it counts at least all that was
    promised before it, and no more than was sent or stored after it.
    """
    counts, before, after = sample.counts, sample.before, sample.after
    total = counts.pending + counts.delivered + counts.dead + counts.discarded
    conditions = {
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
    place = f"{sample.app}, start {sample.start}"
    return [f"{place}: {text}" for text, holds in conditions.items() if not holds]


def counts_survive(evidence: Evidence) -> Result:
    """SIGKILL took nothing from the counts."""
    notes = evidence.notes
    restarts = [
        (old, new)
        for own in evidence.apps
        for old, new in pairwise(each for each in evidence.samples if each.app == own.app)
        if old.start != new.start
    ]
    shrunk = [
        f"{old.app}: {name} was {was} and is {now}"
        for old, new in restarts
        for name in _NEVER_LESS
        if (was := getattr(old.counts, name)) > (now := getattr(new.counts, name))
    ]
    accepted = ", ".join(f"{o.app} {o.counts.accepted} -> {n.counts.accepted}" for o, n in restarts)
    return Result(
        f"{notes.kills} times, ready again within {notes.restart_s:.1f} s; {notes.kill_open} "
        f"requests were open, {notes.kill_in_flight} events in flight; accepted {accepted}",
        tuple(shrunk)
        or unless(
            len(restarts) == notes.kills * len(evidence.apps) > 0, "not every SIGKILL was sampled"
        ),
    )


def final_counts(evidence: Evidence) -> Result:
    """In the end relay's counts are those of both stand-ins."""
    counts = [own.counts for own in evidence.apps]
    return Result(
        ", ".join(
            f"{sum(getattr(each, name) for each in counts)} {name}"
            for name in ("accepted", "delivered", "dead", "filtered")
        ),
        in_each(evidence, _judge_final),
    )


def _judge_final(own: AppEvidence) -> Iterator[str]:
    counts, stored = own.counts, len(own.stored)
    if counts.pending != 0:
        yield f"{counts.pending} still pending"
    if counts.delivered != stored:
        yield f"delivered {counts.delivered}, Amplitude holds {stored}"
    if counts.dead != len(own.dead):
        yield f"dead {counts.dead}, listed {len(own.dead)}"
    for name in ("accepted", "duplicate", "filtered", "quarantined"):
        answered, counted = own.deliveries.receipts.get(name, 0), getattr(counts, name)
        # A request that broke off may have been stored without its answer being seen.
        if not answered <= counted <= answered + own.deliveries.unanswered:
            yield f"{name} {counted}, answered {answered} ({own.deliveries.unanswered} never came)"


def scenario_completed(evidence: Evidence) -> Result:
    """Every step came to its end."""
    timeout = evidence.notes.timeout
    return Result("all steps" if not timeout else "not all steps", unless(not timeout, timeout))


def log_is_clean(evidence: Evidence) -> Result:
    """No key, token, user or device is in relay's log."""
    return Result(
        f"{evidence.log_lines} lines",
        tuple(evidence.leaks) + unless(evidence.log_lines > 0, "there is no log"),
    )


def ended_in_order(evidence: Evidence) -> Result:
    """SIGTERM ended relay in order."""
    notes = evidence.notes
    return Result(
        f"exit code {notes.stop_code} after {notes.stop_s:.1f} s",
        unless(notes.stop_code == 0, f"exit code {notes.stop_code}"),
    )
