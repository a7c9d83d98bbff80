"""Checks on segments: true members, whole revisions, none emptied, changes that add up. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from relay.demo.checks import Result, unless
from relay.demo.evidence import Comparison, Evidence, Explained
from relay.demo.expected import Members

BROKEN_FILES: Final = 4
"""Kinds of broken file that the scenario sends."""

_SUMS: Final[Mapping[str, tuple[str, ...]]] = {
    "cohort_size": ("empty_ids", "restricted_ids", "unknown_users", "matched_users"),
    "matched_users": ("matched_without_subscription", "only_unsubscribed", "subscribed_users"),
}


def members_are_true(evidence: Evidence) -> Result:
    """A segment holds the users that its cohort and OneSignal both know, and no others."""
    comparisons = evidence.notes.segments.comparisons
    wrong = tuple(text for each in comparisons for text in _differences(each))
    largest = max((len(each.seen) for each in comparisons), default=0)
    return Result(
        f"{len(comparisons)} comparisons, up to {largest} members",
        wrong or unless(largest > 0, "there was no segment"),
    )


def _differences(each: Comparison) -> Iterator[str]:
    if each.seen != each.expected:
        yield (
            f"{each.step}: {len(each.seen)} members of {each.cohort_id}, "
            f"{len(each.expected - each.seen)} are missing and "
            f"{len(each.seen - each.expected)} are too many"
        )


def revisions_are_whole(evidence: Evidence) -> Result:
    """Another program saw whole revisions only, one after the other."""
    notes, history = evidence.notes.segments, evidence.history
    wrong = [
        text
        for cohort_id, seen in history.seen.items()
        for text in _not_revisions(cohort_id, seen, notes.revisions.get(cohort_id, ()))
    ]
    sizes = ", ".join(
        f"{len(seen)} of {cohort_id}: {' -> '.join(str(len(members)) for members in seen)}"
        for cohort_id, seen in history.seen.items()
    )
    return Result(
        f"{history.readings} readings saw {sizes}",
        (*wrong, *history.errors) or unless(bool(history.seen), "there was none"),
    )


def _not_revisions(
    cohort_id: str, seen: Sequence[Members], revisions: Sequence[Members]
) -> Iterator[str]:
    """Yield what was seen of a segment that is no revision of it, or came out of turn."""
    # One iterator for all: it skips revisions that no reading met, and never goes back.
    to_come = iter(revisions)
    for members in seen:
        if any(members == revision for revision in to_come):
            continue
        kind = "come out of turn" if members in revisions else "are no revision"
        yield f"{cohort_id}: {len(members)} members {kind}"
        to_come = iter(revisions)


def never_emptied(evidence: Evidence) -> Result:
    """A cut, empty or foreign file and a missing cohort left the segment unchanged."""
    notes = evidence.notes.segments
    reasons = ", ".join(reason.partition(":")[0] for reason in notes.failed_files.values())
    emptied = tuple(
        f"{cohort_id}: seen empty after it had members"
        for cohort_id, seen in evidence.history.seen.items()
        if any(before and not after for before, after in pairwise(seen))
    )
    return Result(
        f"{len(notes.failed_files)} files failed ({reasons}); without its cohort it was "
        f"{notes.missing_state or 'not looked at'}",
        emptied
        + unless(len(notes.failed_files) == BROKEN_FILES, f"not all {BROKEN_FILES} files failed")
        + unless(notes.missing_state == "stale", "the missing cohort was not noticed"),
    )


def shrink_held(evidence: Evidence) -> Result:
    """An implausible shrink was held until it was approved."""
    notes = evidence.notes.segments
    return Result(
        notes.held_reason or "none was held",
        unless(notes.held_reason.startswith(f"{notes.held_leavers} of "), "it was not held as such")
        + unless(notes.held_leavers > 0, "no member was to leave"),
    )


def changes_lead_there(evidence: Evidence) -> Result:
    """Following segment_changes from 0 gave the view's members at every reading."""
    notes, history = evidence.notes.segments, evidence.history
    needless = [
        f"{cohort_id}: {history.changes[cohort_id]} changes instead of {needed}"
        for cohort_id, revisions in notes.revisions.items()
        if (needed := sum(len(old ^ new) for old, new in pairwise(revisions)))
        != history.changes[cohort_id]
    ]
    return Result(
        f"{history.changes.total()} changes, no more than needed",
        (*history.contradictions, *needless)
        or unless(history.changes.total() > 0, "there were none"),
    )


def messages_count_once(evidence: Evidence) -> Result:
    """Every webhook message was accepted, its repetition without effect."""
    notes = evidence.notes.segments
    return Result(
        f"{notes.messages} messages, {notes.deliveries} deliveries answered 200",
        unless(notes.undelivered == 0, f"{notes.undelivered} deliveries were not answered 200")
        + unless(notes.deliveries >= 2 * notes.messages > 0, "not every message was repeated"),
    )


def explanations_add_up(evidence: Evidence) -> Result:
    """The numbers from a cohort's size to its segment's count are true and add up."""
    explained = evidence.notes.segments.explained
    wrong = tuple(text for each in explained for text in _wrong_numbers(each))
    last = explained[-1].given if explained else {}
    return Result(
        f"{len(explained)} times; in the end {last.get('cohort_size')} in the cohort, "
        f"{last.get('matched_users')} members, {last.get('subscribed_count')} subscriptions",
        wrong or unless(bool(explained), "nothing was explained"),
    )


def _wrong_numbers(each: Explained) -> Iterator[str]:
    for name, number in each.expected.items():
        if each.given.get(name) != number:
            yield f"{each.step}: {name} is {each.given.get(name)} and not {number}"
    for name, parts in _SUMS.items():
        if each.given.get(name) != sum(each.given.get(part, 0) for part in parts):
            yield f"{each.step}: {name} is not the sum of its parts"


def export_resumed(evidence: Evidence) -> Result:
    """Relay, killed during an export, went on with the same export."""
    notes = evidence.notes.segments
    return Result(
        f"{notes.exports_killed} interrupted, {notes.exports_repeated} asked for again",
        unless(notes.exports_killed == 1, "none was under way")
        + unless(notes.exports_repeated == 0, "it was paid for twice"),
    )
