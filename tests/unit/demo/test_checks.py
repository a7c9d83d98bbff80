"""The proof of the demo: it holds for a good day, and every row can fail."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from relay.demo.promises import nothing_lost
from relay.demo.proof import RULES, prove
from relay.demo.reader import Readings
from relay.demo.revisions import revisions_are_whole
from relay.demo.row import Row
from relay.demo.segment_notes import Explained, SegmentNotes, Step
from relay.demo.tallies import judge_look

from relay.demo.evidence import AppEvidence, Evidence, Known, Look, Measured
from relay.http.admin.schemas import AppStatusAnswer

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
KNOWN = Known(promised=5, sent=5, stored=4)


def uploaded(name: str, device: str = "phone") -> dict[str, object]:
    """Return an event as Amplitude holds it."""
    return {
        "insert_id": name,
        "device_id": device,
        "event_type": "x",
        "time": 1,
        "event_properties": {"Message Name": "Sale", "source": "onesignal"},
    }


APP = AppEvidence(
    app="shop",
    promised=frozenset("abcde"),
    sent=frozenset("abcde"),
    first_sent={"a": 1, "b": 3, "c": 5, "d": 7, "e": 9},
    answered={"a": 2, "b": 4, "c": 6, "d": 8, "e": 10},
    stored=["a", "b", "c", "d"],
    lanes={"phone": ["a", "b", "d"], "tablet": ["c"]},
    events=[uploaded(name) for name in "abcd"],
    suppressed=2,
    dead={"e": "invalid_field"},
    counts=COUNTS,
    receipts={"accepted": 5, "duplicate": 1, "filtered": 2, "quarantined": 1},
    unanswered=0,
    latencies_ms=[1.0, 2.0],
    hostile_sent=Counter({b"{broken": 1}),
    hostile_answered=Counter({b"{broken": 1}),
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
READINGS = Readings(number=9, sights={"c": REVISIONS[1:]}, changes=Counter(c=7))
SEGMENTS = SegmentNotes(
    steps=[Step("a poll", "c", frozenset("abc"), frozenset("abc"))],
    revisions={"c": REVISIONS},
    readings=READINGS,
    refused=dict.fromkeys(("cut", "empty", "page", "half"), "truncated: It ends."),
    missing_state="stale",
    held_reason="2 of 3 members would leave",
    held_leavers=2,
    explained=[Explained("a poll", NUMBERS, NUMBERS)],
    messages=2,
    deliveries=4,
    exports_killed=1,
)
MEASURED = Measured(
    halted_delivered=3,
    halted_waiting=2,
    outage_answered=7,
    throttled_waiting=1,
    throttled_others=4,
    poisoned={"e": "invalid_field", "b": "forbidden"},
    kills=1,
    repaired="b",
    stop_code=0,
    segments=SEGMENTS,
)
GOOD = Evidence(
    apps=[APP],
    measured=MEASURED,
    looks=[Look("shop", life, KNOWN, COUNTS, KNOWN) for life in (1, 1, 2)],
    dead_once={"e": "invalid_field", "b": "forbidden"},
    violations={},
    requests=3,
    uploaded=6,
    leaks=[],
    log_lines=10,
)


def app(**changes: object) -> Evidence:
    """Return the good day with one app's evidence changed."""
    return replace(GOOD, apps=[replace(APP, **changes)])  # type: ignore[arg-type]  # by name


def noted(**changes: object) -> Evidence:
    """Return the good day with the acts' notes changed."""
    return replace(GOOD, measured=replace(MEASURED, **changes))  # type: ignore[arg-type]


def segments(**changes: object) -> Evidence:
    """Return the good day with the notes of the cohort acts changed."""
    return noted(segments=replace(SEGMENTS, **changes))  # type: ignore[arg-type]  # by name


def readings(**changes: object) -> Evidence:
    """Return the good day where another program saw something else."""
    return segments(readings=replace(READINGS, **changes))  # type: ignore[arg-type]  # by name


def sights(*names: str) -> Evidence:
    """Return the good day where these members were seen, one after the other."""
    return readings(sights={"c": [frozenset(each) for each in names]})


def explained(**changes: int) -> Evidence:
    """Return the good day with other numbers in relay's explanation."""
    return segments(explained=[Explained("a poll", {**NUMBERS, **changes}, NUMBERS)])


def counts(**changes: int) -> AppStatusAnswer:
    """Return relay's numbers, some of them changed."""
    return COUNTS.model_copy(update=changes)


def last_look(look: AppStatusAnswer) -> Evidence:
    """Return the good day with other numbers after the SIGKILL."""
    return replace(GOOD, looks=[*GOOD.looks[:2], Look("shop", 2, KNOWN, look, KNOWN)])


def broken(evidence: Evidence) -> set[str]:
    """Return the names of the rules whose promise did not hold."""
    rows = zip(RULES, prove(evidence), strict=True)
    return {rule.__name__ for rule, row in rows if not row.is_held}


def row_of(rule: Callable[[Evidence], Row], evidence: Evidence) -> Row:
    """Return one row."""
    return prove(evidence)[RULES.index(rule)]


def test_a_good_day_holds_every_promise() -> None:
    """Otherwise the rows below would prove nothing."""
    assert broken(GOOD) == set()


SABOTAGE: dict[str, tuple[str, Evidence]] = {
    "an event is lost": ("nothing_lost", app(promised=frozenset("abcdef"))),
    "a dead letter is gone": ("nothing_lost", app(dead={})),
    "nothing was promised": ("nothing_lost", app(promised=frozenset())),
    "an event is held twice": ("counted_once", app(stored=["a", "b", "b", "c", "d"])),
    "an event was never sent": ("nothing_invented", app(sent=frozenset("abce"))),
    "a retry has other bytes": (
        "same_bytes",
        replace(GOOD, violations={"changed_retry": 1}),
    ),
    "an ip was sent": ("nothing_forbidden", replace(GOOD, violations={"ip": 1})),
    "a field is not agreed": (
        "nothing_forbidden",
        app(events=[*APP.events, {"insert_id": "d", "city": "x"}]),
    ),
    "a property is not agreed": (
        "nothing_forbidden",
        app(events=[*APP.events, {"insert_id": "c", "event_properties": {"email": "x"}}]),
    ),
    "an event overtakes": (
        "order_kept",
        app(lanes={"phone": ["a", "d", "c"]}),
    ),
    "a late event is bare": ("late_are_whole", app(late={"d": "Other"})),
    "no event was late": ("late_are_whole", app(late={})),
    "numbers do not add up": ("counts_add_up", last_look(counts(pending=1))),
    "nobody looked": ("counts_add_up", replace(GOOD, looks=[])),
    "numbers shrink": (
        "counts_survive",
        replace(GOOD, looks=[*GOOD.looks[:2], Look("shop", 2, KNOWN, counts(filtered=1), KNOWN)]),
    ),
    "a SIGKILL was not looked at": ("counts_survive", noted(kills=2)),
    "an event is still pending": (
        "final_counts",
        app(counts=counts(pending=1, accepted=6), receipts={**APP.receipts, "accepted": 6}),
    ),
    "relay counts more than it answered": ("final_counts", app(counts=counts(filtered=3))),
    "relay claims what is not there": ("final_counts", app(counts=counts(delivered=5))),
    "a body is not in quarantine": ("quarantine_is_raw", app(quarantined=Counter())),
    "a body was changed in quarantine": (
        "quarantine_is_raw",
        app(quarantined=Counter({b"{broken": 1, b"{brok": 1})),
    ),
    "nothing hostile was sent": ("quarantine_is_raw", app(hostile_answered=Counter())),
    "poison has another reason": (
        "poison_is_dead",
        replace(GOOD, dead_once={"e": "too_large", "b": "forbidden"}),
    ),
    "poison lives": ("poison_is_dead", replace(GOOD, dead_once={"e": "invalid_field"})),
    "a good event died": (
        "poison_is_dead",
        replace(GOOD, dead_once={**GOOD.dead_once, "a": "forbidden"}),
    ),
    "the repaired event did not arrive": ("repaired_arrived", noted(repaired="e")),
    "nothing was repaired": ("repaired_arrived", noted(repaired="")),
    "nothing was answered in the outage": ("outage_harmless", noted(outage_answered=0)),
    "it was no outage": ("outage_harmless", noted(outage_stored=1)),
    "the refused app did not wait": ("apps_are_apart", noted(halted_waiting=0)),
    "the other app waited": ("apps_are_apart", noted(halted_delivered=0)),
    "the throttled device was not held": ("devices_are_apart", noted(throttled_waiting=0)),
    "the others were held too": ("devices_are_apart", noted(throttled_others=0)),
    "a member is missing": (
        "members_are_true",
        segments(steps=[Step("a poll", "c", frozenset("abc"), frozenset("ab"))]),
    ),
    "a member is no user": (
        "members_are_true",
        segments(steps=[Step("a poll", "c", frozenset("abc"), frozenset("abcz"))]),
    ),
    "there was no segment": ("members_are_true", segments(steps=[])),
    "half a revision was seen": ("revisions_are_whole", sights("abc", "bc", "d")),
    "a revision came back": ("revisions_are_whole", sights("abc", "bcd", "abc")),
    "a segment of no cohort was seen": (
        "revisions_are_whole",
        readings(sights={"c": REVISIONS[1:], "x": [frozenset("a")]}),
    ),
    "a reader was refused": ("revisions_are_whole", readings(failures=["database is locked"])),
    "nothing was seen": ("revisions_are_whole", readings(sights={})),
    "a segment was seen empty": ("never_emptied", sights("abc", "", "d")),
    "a broken file was applied": ("never_emptied", segments(refused={"cut": "truncated: x"})),
    "a missing cohort was overlooked": ("never_emptied", segments(missing_state="active")),
    "no shrink was held": ("shrink_waited", segments(held_reason="")),
    "another shrink was held": ("shrink_waited", segments(held_leavers=3)),
    "nobody would have left": ("shrink_waited", segments(held_leavers=0)),
    "changes lead elsewhere": ("changes_lead_there", readings(quarrels=["c: 2 differ"])),
    "somebody left and came back": ("changes_lead_there", readings(changes=Counter(c=9))),
    "nobody moved": ("changes_lead_there", segments(revisions={}, readings=Readings())),
    "a message was refused": ("messages_count_once", segments(undelivered=1)),
    "no message was repeated": ("messages_count_once", segments(deliveries=2)),
    "there was no message": ("messages_count_once", segments(messages=0, deliveries=0)),
    "an explanation is untrue": (
        "explanations_add_up",
        explained(unknown_users=2, restricted_ids=0),
    ),
    "an explanation does not add up": ("explanations_add_up", explained(subscribed_users=1)),
    "nothing was explained": ("explanations_add_up", segments(explained=[])),
    "an export was paid for twice": ("export_went_on", segments(exports_repeated=1)),
    "no export was under way": ("export_went_on", segments(exports_killed=0)),
    "a secret is in the log": ("log_is_clean", replace(GOOD, leaks=["a key"])),
    "there is no log": ("log_is_clean", replace(GOOD, log_lines=0)),
    "the story is stuck": ("story_was_told", noted(stuck="waited in vain")),
    "relay ended badly": ("ended_in_order", noted(stop_code=1)),
    "relay did not end": ("ended_in_order", noted(stop_code=None)),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_every_row_can_fail(name: str) -> None:
    """A proof that cannot fail proves nothing."""
    rule, evidence = SABOTAGE[name]
    assert rule in broken(evidence)


def test_every_rule_is_sabotaged() -> None:
    """A new row needs a way to fail, too."""
    assert {rule for rule, _ in SABOTAGE.values()} == {rule.__name__ for rule in RULES}


def test_a_lost_event_is_named_with_its_app() -> None:
    """A person must know where to look."""
    row = row_of(nothing_lost, app(promised=frozenset("abcdef")))
    assert row.culprits == ("shop: f",)
    assert row.figures == "5 of 6 (4 + 1)"


def test_events_under_way_at_a_sigkill_may_be_stored_without_an_answer() -> None:
    """Two broken connections may hide one accepted event and one repetition."""
    evidence = app(
        promised=frozenset("abde"),
        receipts={"accepted": 4, "duplicate": 1, "filtered": 2, "quarantined": 1},
        unanswered=1,
    )
    assert broken(evidence) == set()


def test_events_sent_at_the_same_time_have_no_order() -> None:
    """Only what was answered before another was sent must come before it."""
    evidence = app(
        first_sent={**APP.first_sent, "d": APP.first_sent["c"]},
        lanes={"phone": ["a", "d", "c"]},
    )
    assert broken(evidence) == set()


def test_a_repaired_event_may_come_late() -> None:
    """A dead letter goes to the end of the line."""
    assert broken(app(lanes={"phone": ["a", "d", "b"], "tablet": ["c"]})) == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accepted": 4, "delivered": 3}, "but 5 were answered"),
        ({"accepted": 6, "delivered": 5}, "but only 5 were sent"),
        ({"delivered": 5, "dead": 0}, "but Amplitude holds 4"),
        ({"discarded": 1}, "is not 6"),
    ],
)
def test_a_look_is_held_against_both_sides(changes: dict[str, int], words: str) -> None:
    """Numbers that add up may still be wrong."""
    found = judge_look(Look("shop", 1, KNOWN, counts(**changes), KNOWN))
    assert any(words in text for text in found)


def test_a_revision_may_go_unseen() -> None:
    """Readings have pauses, and two revisions may follow each other within one."""
    assert broken(sights("abc", "d")) == set()


def test_half_a_revision_is_told_with_its_size() -> None:
    """Whoever looks into it must know what to look for."""
    row = row_of(revisions_are_whole, sights("abc", "bc", "d"))
    assert row.culprits == ("c: 2 members are no revision",)


def test_a_revision_out_of_turn_is_told_apart() -> None:
    """A whole revision that returns is another mistake than half of one."""
    row = row_of(revisions_are_whole, sights("bcd", "abc"))
    assert row.culprits == ("c: 3 members come out of turn",)
