"""What becomes of segments: whole revisions only, none emptied, nothing but what is true. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from relay.demo.evidence import Evidence
from relay.demo.row import Row, unless
from relay.demo.segment_notes import Explained, Step
from relay.demo.truth import Members

FILES_TRIED: Final = 4
"""Ways in which a file is wrong."""

_SUMS: Final[Mapping[str, tuple[str, ...]]] = {
    "cohort_size": ("empty_ids", "restricted_ids", "unknown_users", "matched_users"),
    "matched_users": ("matched_without_subscription", "only_unsubscribed", "subscribed_users"),
}


def members_are_true(evidence: Evidence) -> Row:
    """At every step a segment's members were those that both services' data give."""
    steps = evidence.measured.segments.steps
    wrong = tuple(text for step in steps for text in _judge_step(step))
    largest = max((len(step.seen) for step in steps), default=0)
    return Row(
        "3",
        "a segment holds whom cohort and OneSignal's users both name, and nobody else",
        f"at {len(steps)} steps, up to {largest} members",
        wrong or unless(largest > 0, "there was no segment"),
    )


def _judge_step(step: Step) -> Iterator[str]:
    if step.seen != step.expected:
        yield (
            f"{step.name}: {len(step.seen)} members of {step.cohort_id}, "
            f"{len(step.expected - step.seen)} are missing and "
            f"{len(step.seen - step.expected)} are too many"
        )


def revisions_are_whole(evidence: Evidence) -> Row:
    """Whoever read saw one whole revision after the other."""
    noted = evidence.measured.segments
    readings = noted.readings
    wrong = [
        text
        for cohort_id, sights in readings.sights.items()
        for text in find_halves(cohort_id, sights, noted.revisions.get(cohort_id, ()))
    ]
    seen = ", ".join(
        f"{len(sights)} of {cohort_id}: {' -> '.join(str(len(sight)) for sight in sights)}"
        for cohort_id, sights in readings.sights.items()
    )
    return Row(
        "3",
        "another program saw whole revisions only, one after the other",
        f"{readings.number} readings saw {seen}",
        (*wrong, *readings.failures) or unless(bool(readings.sights), "there was none"),
    )


def find_halves(
    cohort_id: str, sights: Sequence[Members], revisions: Sequence[Members]
) -> list[str]:
    """Return what was seen of a segment that is no revision of it, or came out of turn.

    A revision may go unseen, for readings have pauses; none is seen twice.
    """
    wrong, to_come = [], iter(revisions)
    for sight in sights:
        if any(sight == revision for revision in to_come):
            continue
        kind = "come out of turn" if sight in revisions else "are no revision"
        wrong.append(f"{cohort_id}: {len(sight)} members {kind}")
        to_come = iter(revisions)
    return wrong


def never_emptied(evidence: Evidence) -> Row:
    """What was wrong or missing left the segment alone."""
    noted = evidence.measured.segments
    reasons = ", ".join(reason.partition(":")[0] for reason in noted.refused.values())
    emptied = tuple(
        f"{cohort_id}: seen empty after it had members"
        for cohort_id, sights in noted.readings.sights.items()
        if any(before and not after for before, after in pairwise(sights))
    )
    return Row(
        "3",
        "a cut, empty or foreign file and a missing cohort left the segment alone",
        f"{len(noted.refused)} files failed ({reasons}); without its cohort it was "
        f"{noted.missing_state or 'not looked at'}",
        emptied
        + unless(len(noted.refused) == FILES_TRIED, f"not all {FILES_TRIED} files failed")
        + unless(noted.missing_state == "stale", "the missing cohort was not noticed"),
    )


def shrink_waited(evidence: Evidence) -> Row:
    """An implausible shrink waited for a person."""
    noted = evidence.measured.segments
    return Row(
        "3",
        "an implausible shrink was held until a person approved it",
        noted.held_reason or "none was held",
        unless(noted.held_reason.startswith(f"{noted.held_leavers} of "), "it was not held as such")
        + unless(noted.held_leavers > 0, "nobody was to leave"),
    )


def changes_lead_there(evidence: Evidence) -> Row:
    """Whoever follows the changes from the first one has the same members."""
    noted = evidence.measured.segments
    readings = noted.readings
    wrong = [
        f"{cohort_id}: {readings.changes[cohort_id]} changes instead of {needed}"
        for cohort_id, revisions in noted.revisions.items()
        if (needed := sum(len(old ^ new) for old, new in pairwise(revisions)))
        != readings.changes[cohort_id]
    ]
    return Row(
        "3",
        "whoever follows segment_changes from 0 had the view's members at every reading",
        f"{readings.changes.total()} changes, no more than needed",
        (*readings.quarrels, *wrong) or unless(readings.changes.total() > 0, "there were none"),
    )


def messages_count_once(evidence: Evidence) -> Row:
    """A repeated message of the webhook changes nothing."""
    noted = evidence.measured.segments
    return Row(
        "",
        "every message of the cohort webhook was taken, its repetition without effect",
        f"{noted.messages} messages, answered {noted.deliveries} times",
        unless(noted.undelivered == 0, f"{noted.undelivered} deliveries were not answered 200")
        + unless(noted.deliveries >= 2 * noted.messages > 0, "not every message was repeated"),
    )


def explanations_add_up(evidence: Evidence) -> Row:
    """The numbers of an explanation are true and add up."""
    explained = evidence.measured.segments.explained
    wrong = tuple(text for each in explained for text in judge_explanation(each))
    last = explained[-1].told if explained else {}
    return Row(
        "",
        "the numbers between a cohort's size and its segment's count are true and add up",
        f"{len(explained)} times; in the end {last.get('cohort_size')} in the cohort, "
        f"{last.get('matched_users')} members, {last.get('subscribed_count')} subscriptions",
        wrong or unless(bool(explained), "nothing was explained"),
    )


def judge_explanation(each: Explained) -> list[str]:
    """Return what is wrong with an explanation."""
    wrong = [
        f"{each.name}: {name} is {each.told.get(name)} and not {number}"
        for name, number in each.expected.items()
        if each.told.get(name) != number
    ]
    return wrong + [
        f"{each.name}: {name} is not the sum of its parts"
        for name, parts in _SUMS.items()
        if each.told.get(name) != sum(each.told.get(part, 0) for part in parts)
    ]


def export_went_on(evidence: Evidence) -> Row:
    """A SIGKILL in the middle of an export cost no further one."""
    noted = evidence.measured.segments
    return Row(
        "",
        "relay, killed in the middle of an export, went on with the same one",
        f"{noted.exports_killed} under way, {noted.exports_repeated} asked for again",
        unless(noted.exports_killed == 1, "none was under way")
        + unless(noted.exports_repeated == 0, "it was paid for twice"),
    )
