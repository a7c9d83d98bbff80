"""The checks of the demo: they pass on a good run, and each can fail."""

from collections import Counter
from dataclasses import fields, replace

import pytest

from relay.demo.checks import Check, Result
from relay.demo.checks.events import nothing_lost
from relay.demo.checks.operation import judge_sample
from relay.demo.checks.segments import revisions_are_whole
from relay.demo.evidence import (
    AppEvidence,
    Comparison,
    Evidence,
    Explained,
    Notes,
    SegmentHistory,
    SegmentNotes,
    StandInCounts,
    StatusSample,
)
from relay.demo.recorder import DeliveryRecorder
from relay.demo.report import CHECKS, run_checks
from relay.demo.scenario import STEPS, steps_proving
from relay.http.admin.schemas import AppStatusAnswer
from relay.sandbox.amplitude.ledger import Account

COUNTS = AppStatusAnswer(
    accepted=5,
    pending=0,
    in_flight=0,
    delivered=4,
    dead=1,
    discarded=0,
    duplicate=1,
    filtered=2,
    quarantined=1,
    oldest_pending_age_s=None,
    delivery="running",
    last_error=None,
)
KNOWN = StandInCounts(promised=5, sent=5, stored=4)


def uploaded(name: str, device: str = "phone") -> dict[str, object]:
    """Return an event as Amplitude holds it."""
    return {
        "insert_id": name,
        "device_id": device,
        "event_type": "x",
        "time": 1,
        "event_properties": {"Message Name": "Sale", "source": "onesignal"},
    }


DELIVERIES = DeliveryRecorder(
    wanted=frozenset("abcde"),
    attempted=set("abcde"),
    promised=set("abcde"),
    first_sent={"a": 1, "b": 3, "c": 5, "d": 7, "e": 9},
    first_answered={"a": 2, "b": 4, "c": 6, "d": 8, "e": 10},
    receipts=Counter(accepted=5, duplicate=1, filtered=2, quarantined=1),
    latencies_ms=[1.0, 2.0],
    unreadable_sent=Counter({b"{broken": 1}),
    unreadable_answered=Counter({b"{broken": 1}),
)
ACCOUNT = Account(
    insert_ids=["a", "b", "c", "d"],
    device_order={"phone": ["a", "b", "d"], "tablet": ["c"]},
    events=[uploaded(name) for name in "abcd"],
    duplicates=2,
)
APP = AppEvidence(
    app="shop",
    deliveries=DELIVERIES,
    account=ACCOUNT,
    dead={"e": "invalid_field"},
    counts=COUNTS,
    quarantined=Counter({b"{broken": 1}),
    late={"d": "Sale"},
)
NUMBERS = {
    "cohort_size": 6,
    "empty_ids": 1,
    "restricted_ids": 1,
    "unknown_users": 1,
    "matched_users": 3,
    "matched_without_subscription": 0,
    "only_unsubscribed": 1,
    "subscribed_users": 2,
    "subscribed_count": 4,
}
REVISIONS = [frozenset(names) for names in ("", "abc", "bcd", "d")]
HISTORY = SegmentHistory(readings=9, seen={"c": REVISIONS[1:]}, changes=Counter(c=7))
SEGMENTS = SegmentNotes(
    comparisons=[Comparison("a poll", "c", frozenset("abc"), frozenset("abc"))],
    explained=[Explained("a poll", NUMBERS, NUMBERS)],
    revisions={"c": REVISIONS},
    failed_files=dict.fromkeys(("cut", "empty", "page", "half"), "truncated: It ends."),
    missing_state="stale",
    held_reason="2 of 3 members would leave",
    held_leavers=2,
    messages=2,
    deliveries=4,
    exports_killed=1,
)
NOTES = Notes(
    halted_delivered=3,
    halted_waiting=2,
    outage_answered=7,
    throttled_waiting=1,
    throttled_others=4,
    poisoned={"e": "invalid_field", "b": "forbidden"},
    dead_before_retry={"e": "invalid_field", "b": "forbidden"},
    retried="b",
    kills=1,
    stop_code=0,
    segments=SEGMENTS,
)
GOOD = Evidence(
    apps=[APP],
    notes=NOTES,
    history=HISTORY,
    samples=[StatusSample("shop", start, KNOWN, COUNTS, KNOWN) for start in (1, 1, 2)],
    violations={},
    requests=3,
    uploaded=6,
    leaks=[],
    log_lines=10,
)


def app(**changes: object) -> Evidence:
    """Return the good run with one app's evidence changed, on either side."""

    def of(side: type) -> dict[str, object]:
        return {name: changes[name] for name in changes.keys() & {f.name for f in fields(side)}}

    deliveries = replace(DELIVERIES, **of(DeliveryRecorder))  # type: ignore[arg-type]  # by name
    account = replace(ACCOUNT, **of(Account))  # type: ignore[arg-type]  # by name
    own = replace(APP, deliveries=deliveries, account=account, **of(AppEvidence))  # type: ignore[arg-type]
    return replace(GOOD, apps=[own])


def noted(**changes: object) -> Evidence:
    """Return the good run with the steps' notes changed."""
    return replace(GOOD, notes=replace(NOTES, **changes))  # type: ignore[arg-type]


def segments(**changes: object) -> Evidence:
    """Return the good run with the notes of the segment steps changed."""
    return noted(segments=replace(SEGMENTS, **changes))  # type: ignore[arg-type]  # by name


def history(**changes: object) -> Evidence:
    """Return the good run where another program saw something else."""
    return replace(GOOD, history=replace(HISTORY, **changes))  # type: ignore[arg-type]  # by name


def seen(*names: str) -> Evidence:
    """Return the good run where these members were seen, one after another."""
    return history(seen={"c": [frozenset(each) for each in names]})


def explained(**changes: int) -> Evidence:
    """Return the good run with other numbers in relay's explanation."""
    return segments(explained=[Explained("a poll", NUMBERS, {**NUMBERS, **changes})])


def counts(**changes: int) -> AppStatusAnswer:
    """Return relay's numbers, some of them changed."""
    return COUNTS.model_copy(update=changes)


def last_sample(last: AppStatusAnswer) -> Evidence:
    """Return the good run with other numbers after the SIGKILL."""
    return replace(GOOD, samples=[*GOOD.samples[:2], StatusSample("shop", 2, KNOWN, last, KNOWN)])


def broken(evidence: Evidence) -> set[str]:
    """Return the names of the checks that failed."""
    return {check.__name__ for _, check, result in run_checks(evidence) if not result.is_held}


def result_of(wanted: Check, evidence: Evidence) -> Result:
    """Return the result of one check."""
    (result,) = (result for _, check, result in run_checks(evidence) if check is wanted)
    return result


def test_a_good_run_passes_every_check() -> None:
    """Otherwise the failures below would prove nothing."""
    assert broken(GOOD) == set()


SABOTAGE: dict[str, tuple[str, Evidence]] = {
    "an event is lost": ("nothing_lost", app(promised=set("abcdef"))),
    "a dead letter is gone": ("nothing_lost", app(dead={})),
    "nothing was promised": ("nothing_lost", app(promised=set())),
    "an event is held twice": ("counted_once", app(insert_ids=["a", "b", "b", "c", "d"])),
    "an event was never sent": ("nothing_invented", app(attempted=set("abce"))),
    "a retry has other bytes": (
        "same_bytes",
        replace(GOOD, violations={"changed_retry": 1}),
    ),
    "an ip was sent": ("no_forbidden_fields", replace(GOOD, violations={"ip": 1})),
    "a field is not agreed": (
        "no_forbidden_fields",
        app(events=[*ACCOUNT.events, {"insert_id": "d", "city": "x"}]),
    ),
    "a property is not agreed": (
        "no_forbidden_fields",
        app(events=[*ACCOUNT.events, {"insert_id": "c", "event_properties": {"email": "x"}}]),
    ),
    "an event overtakes": (
        "order_kept",
        app(device_order={"phone": ["a", "d", "c"]}),
    ),
    "a late event is bare": ("late_completed", app(late={"d": "Other"})),
    "no event was late": ("late_completed", app(late={})),
    "numbers do not add up": ("counts_add_up", last_sample(counts(pending=1))),
    "there was no sample": ("counts_add_up", replace(GOOD, samples=[])),
    "numbers shrink": (
        "counts_survive",
        last_sample(counts(filtered=1)),
    ),
    "a SIGKILL was not sampled": ("counts_survive", noted(kills=2)),
    "an event is still pending": (
        "final_counts",
        app(
            counts=counts(pending=1, accepted=6),
            receipts=Counter({**DELIVERIES.receipts, "accepted": 6}),
        ),
    ),
    "relay counts more than it answered": ("final_counts", app(counts=counts(filtered=3))),
    "relay claims what is not there": ("final_counts", app(counts=counts(delivered=5))),
    "a body is not in quarantine": ("quarantine_is_raw", app(quarantined=Counter())),
    "a body was changed in quarantine": (
        "quarantine_is_raw",
        app(quarantined=Counter({b"{broken": 1, b"{brok": 1})),
    ),
    "nothing hostile was sent": ("quarantine_is_raw", app(unreadable_answered=Counter())),
    "poison has another reason": (
        "poison_dead_lettered",
        noted(dead_before_retry={"e": "too_large", "b": "forbidden"}),
    ),
    "poison lives": ("poison_dead_lettered", noted(dead_before_retry={"e": "invalid_field"})),
    "a good event died": (
        "poison_dead_lettered",
        noted(dead_before_retry={**NOTES.dead_before_retry, "a": "forbidden"}),
    ),
    "the repaired event did not arrive": ("retried_arrived", noted(retried="e")),
    "nothing was repaired": ("retried_arrived", noted(retried="")),
    "nothing was answered in the outage": ("outage_harmless", noted(outage_answered=0)),
    "it was no outage": ("outage_harmless", noted(outage_stored=1)),
    "the refused app did not wait": ("apps_are_independent", noted(halted_waiting=0)),
    "the other app waited": ("apps_are_independent", noted(halted_delivered=0)),
    "the throttled device was not held": ("devices_are_independent", noted(throttled_waiting=0)),
    "the others were held too": ("devices_are_independent", noted(throttled_others=0)),
    "a member is missing": (
        "members_are_true",
        segments(comparisons=[Comparison("a poll", "c", frozenset("abc"), frozenset("ab"))]),
    ),
    "a member is no user": (
        "members_are_true",
        segments(comparisons=[Comparison("a poll", "c", frozenset("abc"), frozenset("abcz"))]),
    ),
    "there was no segment": ("members_are_true", segments(comparisons=[])),
    "half a revision was seen": ("revisions_are_whole", seen("abc", "bc", "d")),
    "a revision came back": ("revisions_are_whole", seen("abc", "bcd", "abc")),
    "a segment of no cohort was seen": (
        "revisions_are_whole",
        history(seen={"c": REVISIONS[1:], "x": [frozenset("a")]}),
    ),
    "a reader was refused": ("revisions_are_whole", history(errors=["database is locked"])),
    "nothing was seen": ("revisions_are_whole", history(seen={})),
    "a segment was seen empty": ("never_emptied", seen("abc", "", "d")),
    "a broken file was applied": ("never_emptied", segments(failed_files={"cut": "truncated: x"})),
    "a missing cohort was overlooked": ("never_emptied", segments(missing_state="active")),
    "no shrink was held": ("shrink_held", segments(held_reason="")),
    "another shrink was held": ("shrink_held", segments(held_leavers=3)),
    "nobody would have left": ("shrink_held", segments(held_leavers=0)),
    "changes lead elsewhere": ("changes_lead_there", history(contradictions=["c: 2 differ"])),
    "somebody left and came back": ("changes_lead_there", history(changes=Counter(c=9))),
    "nobody moved": (
        "changes_lead_there",
        replace(segments(revisions={}), history=SegmentHistory()),
    ),
    "a message was refused": ("messages_count_once", segments(undelivered=1)),
    "no message was repeated": ("messages_count_once", segments(deliveries=2)),
    "there was no message": ("messages_count_once", segments(messages=0, deliveries=0)),
    "an explanation is untrue": (
        "explanations_add_up",
        explained(unknown_users=2, restricted_ids=0),
    ),
    "an explanation does not add up": ("explanations_add_up", explained(subscribed_users=1)),
    "nothing was explained": ("explanations_add_up", segments(explained=[])),
    "an export was paid for twice": ("export_resumed", segments(exports_repeated=1)),
    "no export was under way": ("export_resumed", segments(exports_killed=0)),
    "a secret is in the log": ("log_is_clean", replace(GOOD, leaks=["a key"])),
    "there is no log": ("log_is_clean", replace(GOOD, log_lines=0)),
    "the story is stuck": ("scenario_completed", noted(timeout="waited in vain")),
    "relay ended badly": ("ended_in_order", noted(stop_code=1)),
    "relay did not end": ("ended_in_order", noted(stop_code=None)),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_every_check_can_fail(name: str) -> None:
    """A proof that cannot fail proves nothing."""
    check, evidence = SABOTAGE[name]
    assert check in broken(evidence)


def test_every_check_is_sabotaged() -> None:
    """A new check needs a way to fail, too."""
    assert {check for check, _ in SABOTAGE.values()} == {check.__name__ for _, check in CHECKS}


def test_every_step_proves_what_is_checked() -> None:
    """A check that never runs, or that no step exercises, proves nothing."""
    checks = {check for _, check in CHECKS}
    assert {check for step in STEPS for check in step.proves} <= checks
    assert [each.__name__ for each in checks if not steps_proving(each)] == ["scenario_completed"]


def test_a_lost_event_is_named_with_its_app() -> None:
    """The operator needs to know where to look."""
    result = result_of(nothing_lost, app(promised=set("abcdef")))
    assert result.failures == ("shop: f",)
    assert result.figures == "5 of 6 (4 + 1)"


def test_events_in_flight_at_a_sigkill_may_be_stored_without_an_answer() -> None:
    """Two broken connections may hide one accepted event and one repetition."""
    evidence = app(
        promised=set("abde"),
        receipts=Counter(accepted=4, duplicate=1, filtered=2, quarantined=1),
        answers=Counter(connection=1),
    )
    assert broken(evidence) == set()


def test_events_sent_at_the_same_time_have_no_order() -> None:
    """Only events answered before another was sent must precede it."""
    evidence = app(
        first_sent={**DELIVERIES.first_sent, "d": DELIVERIES.first_sent["c"]},
        device_order={"phone": ["a", "d", "c"]},
    )
    assert broken(evidence) == set()


def test_a_repaired_event_may_come_late() -> None:
    """A retried dead letter is the last in order."""
    assert broken(app(device_order={"phone": ["a", "d", "b"], "tablet": ["c"]})) == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accepted": 4, "delivered": 3}, "but 5 were answered"),
        ({"accepted": 6, "delivered": 5}, "but only 5 were sent"),
        ({"delivered": 5, "dead": 0}, "but Amplitude holds 4"),
        ({"discarded": 1}, "is not 6"),
    ],
)
def test_an_explanation_is_compared_with_both_sides(changes: dict[str, int], words: str) -> None:
    """Numbers that add up may still be wrong."""
    found = judge_sample(StatusSample("shop", 1, KNOWN, counts(**changes), KNOWN))
    assert any(words in text for text in found)


def test_a_revision_may_go_unseen() -> None:
    """The recorder samples, and two revisions may fall between two samples."""
    assert broken(seen("abc", "d")) == set()


def test_half_a_revision_is_reported_with_its_size() -> None:
    """The size shows what to look for."""
    result = result_of(revisions_are_whole, seen("abc", "bc", "d"))
    assert result.failures == ("c: 2 members are no revision",)


def test_a_revision_out_of_order_is_reported_as_such() -> None:
    """An old revision that returns is another defect than half of one."""
    result = result_of(revisions_are_whole, seen("bcd", "abc"))
    assert result.failures == ("c: 3 members come out of turn",)
