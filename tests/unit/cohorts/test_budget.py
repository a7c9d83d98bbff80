from datetime import UTC, datetime, timedelta

import pytest

from relay.cohorts.budget import (
    WINDOW_MS,
    WINDOW_REQUESTS,
    Allowance,
    Candidate,
    Due,
    month_of,
    month_start,
    next_month_start,
    plan,
    window_free_at,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def _at(year: int, month: int, day: int = 1, hour: int = 0, minute: int = 0) -> int:
    moment = datetime(year, month, day, hour, minute, tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


NOVEMBER = _at(2026, 11)
DECEMBER = _at(2026, 12)
NOW = _at(2026, 11, 16)
"""Half of November is over."""


def _candidate(cohort_id: str, wait_ms: int = HOUR_MS, **changed: object) -> Candidate:
    candidate = Candidate(
        cohort_id,
        is_first=False,
        is_manual=False,
        stale_since=NOW - wait_ms,
        last_downloaded_at=NOW - 30 * DAY_MS,
        changes=1,
    )
    return candidate._replace(**changed)  # type: ignore[arg-type]  # fields by name


def _first(cohort_id: str, wait_ms: int = HOUR_MS) -> Candidate:
    return _candidate(cohort_id, wait_ms, is_first=True, last_downloaded_at=None)


def _manual(cohort_id: str, wait_ms: int = HOUR_MS) -> Candidate:
    return _candidate(cohort_id, wait_ms, is_manual=True)


def _order(*candidates: Candidate) -> list[str]:
    dues = plan(candidates, Allowance(monthly=450, used=0), [], NOW)
    return [due.cohort_id for due in dues]


# Months.


@pytest.mark.parametrize(
    ("now_ms", "start", "end", "name"),
    [
        (NOVEMBER, NOVEMBER, DECEMBER, "2026-11"),
        (DECEMBER - 1, NOVEMBER, DECEMBER, "2026-11"),
        (DECEMBER, DECEMBER, _at(2027, 1), "2026-12"),
        (_at(2027, 1) - 1, DECEMBER, _at(2027, 1), "2026-12"),
        (_at(2027, 1, 31, 23, 59), _at(2027, 1), _at(2027, 2), "2027-01"),
        (_at(2027, 2, 28, 23, 59), _at(2027, 2), _at(2027, 3), "2027-02"),
        (_at(2028, 2, 29, 12), _at(2028, 2), _at(2028, 3), "2028-02"),
        (0, 0, _at(1970, 2), "1970-01"),
    ],
)
def test_months_are_those_of_utc(now_ms: int, start: int, end: int, name: str) -> None:
    """To the millisecond, over the year's end and through leap years."""
    assert (month_start(now_ms), next_month_start(now_ms), month_of(now_ms)) == (start, end, name)


# What is left.


@pytest.mark.parametrize(
    ("allowance", "total", "spent", "left"),
    [
        (Allowance(450, 0), 450, 0, 450),
        (Allowance(450, 449), 450, 449, 1),
        (Allowance(450, 451), 450, 451, 0),
        (Allowance(450, 3, upstream=(500, 3)), 450, 3, 447),
        (Allowance(450, 3, upstream=(500, 480)), 450, 480, 0),
        (Allowance(450, 3, upstream=(100, 1)), 100, 3, 97),
        (Allowance(0, 0), 0, 0, 0),
        (Allowance(450, 0, upstream=(0, 0)), 0, 0, 0),
    ],
)
def test_the_less_favourable_count_wins(
    allowance: Allowance, total: int, spent: int, left: int
) -> None:
    """Others may use the same key, and Amplitude may have lowered its limit."""
    assert (allowance.total, allowance.spent, allowance.left) == (total, spent, left)


@pytest.mark.parametrize(
    ("used", "next_at"),
    [
        (0, NOW),
        (15, NOW),
        (16, NOW + DAY_MS),
        (17, NOW + 2 * DAY_MS),
        (29, DECEMBER - DAY_MS),
        (30, DECEMBER),
        (99, DECEMBER),
    ],
)
def test_credit_accrues_evenly_and_stays_good(used: int, next_at: int) -> None:
    """Thirty a month are one a day in November: by its 16th day, sixteen in all."""
    assert Allowance(monthly=30, used=used).turn_at(1, NOW, is_paced=True) == next_at


def test_credit_that_falls_between_milliseconds_is_never_early() -> None:
    """A share of 2/7 of a month ends within a millisecond."""
    allowance = Allowance(monthly=7, used=2)
    since_start_ms = allowance.turn_at(1, NOVEMBER, is_paced=True) - NOVEMBER
    assert 7 * (since_start_ms - 1) < 2 * 30 * DAY_MS <= 7 * since_start_ms


@pytest.mark.parametrize("monthly", [0, -1])
def test_without_any_allowance_nothing_happens_this_month(monthly: int) -> None:
    """A limit of 0 means no downloads."""
    assert Allowance(monthly, used=0).turn_at(1, NOW, is_paced=True) == DECEMBER


# Amplitude's window.


def test_the_window_has_room_for_sixty() -> None:
    """The sixty-first waits until the first has left it."""
    recent = [NOW - 1000 * seconds for seconds in range(1, WINDOW_REQUESTS + 1)]
    assert window_free_at(recent[1:], NOW) == NOW
    assert window_free_at(recent, NOW) == NOW - 60_000 + WINDOW_MS
    assert window_free_at(sorted(recent), NOW) == NOW - 60_000 + WINDOW_MS


def test_an_overfull_window_must_empty_below_sixty() -> None:
    """Of eighty requests twenty-one have to leave it."""
    recent = [NOW - 1000 * seconds for seconds in range(1, 81)]
    assert window_free_at(recent, NOW) == NOW - 60_000 + WINDOW_MS


def test_what_has_left_the_window_does_not_count() -> None:
    """After ten minutes the whole window is free again."""
    assert window_free_at([NOW - WINDOW_MS] * 100, NOW) == NOW
    assert window_free_at([NOW - WINDOW_MS + 1] * 100, NOW) == NOW + 1
    assert window_free_at([], NOW) == NOW


def test_requests_of_a_clock_that_was_set_back_do_not_block_for_long() -> None:
    """An hour ahead is no recent request; a minute ahead may well be one."""
    assert window_free_at([NOW + HOUR_MS] * 100, NOW) == NOW
    assert window_free_at([NOW + 60_000] * 100, NOW) == NOW + 60_000 + WINDOW_MS


# Order.


def test_manual_syncs_precede_first_downloads_and_those_the_rest() -> None:
    """Manual syncs have a waiting operator, first downloads a missing segment."""
    assert _order(_candidate("c", 9 * DAY_MS), _first("b"), _manual("a")) == ["a", "b", "c"]


def test_the_longest_wait_comes_first() -> None:
    """Within the same class, also among first downloads."""
    assert _order(_candidate("a", 1), _candidate("b", 3), _candidate("c", 2)) == ["b", "c", "a"]
    assert _order(_first("a", 1), _first("b", 3), _first("c", 2)) == ["b", "c", "a"]


def test_frequent_changes_come_first_after_equal_waits() -> None:
    """It has more changes to fetch."""
    assert _order(_candidate("a", changes=1), _candidate("b", changes=700)) == ["b", "a"]


def test_a_long_wait_outweighs_every_rate_of_change() -> None:
    """2,880 changes a month, one at each poll, count twelve times as much."""
    busy = _candidate("busy", HOUR_MS, changes=2_880)
    assert _order(busy, _candidate("rare", 13 * HOUR_MS)) == ["rare", "busy"]
    assert _order(busy, _candidate("rare", 11 * HOUR_MS)) == ["busy", "rare"]


def test_of_equals_the_one_downloaded_longest_ago_comes_first() -> None:
    """Then ids decide, so that plans are repeatable."""
    older = _candidate("b", last_downloaded_at=NOW - 31 * DAY_MS)
    assert _order(_candidate("a"), older, _candidate("c")) == ["b", "a", "c"]
    assert _order(_candidate("c"), older, _candidate("a")) == ["b", "a", "c"]


def test_instants_of_a_clock_that_was_set_back_put_no_cohort_last() -> None:
    """How long they really waited is unknown, so they go first, once."""
    ahead = _candidate("ahead", -HOUR_MS, last_downloaded_at=NOW + HOUR_MS)
    assert _order(_candidate("a"), ahead) == ["ahead", "a"]
    tied = _candidate("z", last_downloaded_at=NOW + HOUR_MS)
    assert _order(_candidate("a"), tied) == ["z", "a"]


# Due times.


def test_due_downloads_have_no_reason() -> None:
    """Only waiting cohorts have a reason."""
    allowance = Allowance(monthly=450, used=0)
    assert plan([_candidate("a")], allowance, [], NOW) == [Due("a", NOW, None)]
    assert plan([], allowance, [], NOW) == []


def test_paced_downloads_are_due_one_share_after_the_other() -> None:
    """Fifteen of the sixteen that accrued by now are used."""
    candidates = [_candidate(name, wait_ms=9 - n) for n, name in enumerate("abc")]
    share = "waits for its share of the month's downloads"
    assert plan(candidates, Allowance(monthly=30, used=15), [], NOW) == [
        Due("a", NOW, None),
        Due("b", NOW + DAY_MS, share),
        Due("c", NOW + 2 * DAY_MS, share),
    ]


def test_manual_syncs_and_first_downloads_need_no_credit_but_use_it() -> None:
    """Five used and two more now are six days ahead of pace on the first day."""
    candidates = [_candidate("c"), _first("b"), _manual("a")]
    dues = plan(candidates, Allowance(monthly=30, used=5), [], NOVEMBER)
    assert [due.cohort_id for due in dues if due.due_at == NOVEMBER] == ["a", "b"]
    assert dues[2].due_at == NOVEMBER + 7 * DAY_MS


def test_a_failed_first_download_is_paced_when_retried() -> None:
    """A cohort that cannot be exported must not use up the month, one attempt per poll."""
    again = _candidate("a", is_first=True, last_downloaded_at=NOW - HOUR_MS)
    (due,) = plan([again], Allowance(monthly=30, used=16), [], NOW)
    assert due.due_at == NOW + DAY_MS


@pytest.mark.parametrize("candidate", [_manual("a"), _first("a"), _candidate("a")])
def test_a_spent_month_stops_all_downloads_until_the_next(candidate: Candidate) -> None:
    """The total also limits manual syncs."""
    reason = "the month's downloads are used up: 450 of 450; the next is possible on 2026-12-01"
    assert plan([candidate], Allowance(450, 450), [], NOW) == [Due("a", DECEMBER, reason)]


def test_downloads_beyond_this_month_are_due_at_the_next() -> None:
    """One download is left, and a manual sync precedes a first download."""
    dues = plan([_manual("a"), _first("b"), _candidate("c")], Allowance(30, 29), [], NOW)
    others = "what is left of the month's downloads goes to others; the next come on 2026-12-01"
    share_ms = 31 * DAY_MS // 30
    assert dues == [
        Due("a", NOW, None),
        Due("b", DECEMBER, others),
        Due("c", DECEMBER + share_ms, others),
    ]


def test_spending_beyond_the_limit_is_no_debt_of_the_next_month() -> None:
    """Others may have used the key, or the limit was lowered within the month."""
    (due,) = plan([_candidate("a")], Allowance(30, 3, upstream=(500, 480)), [], NOW)
    assert due.due_at == DECEMBER
    assert due.reason is not None
    assert "480 of 30" in due.reason


def test_no_plan_looks_beyond_the_next_month() -> None:
    """Everything is replanned long before."""
    dues = plan([_candidate(f"{n}") for n in range(50)], Allowance(2, 0), [], NOW)
    assert dues[-1].due_at == DECEMBER + 31 * DAY_MS // 2


def test_without_allowance_the_reason_says_so() -> None:
    """No date is promised where there is none."""
    (due,) = plan([_manual("a")], Allowance(0, 0), [], NOW)
    assert due == Due("a", DECEMBER, "no downloads are allowed: the month's limit is 0")


def test_the_window_counts_those_planned_before() -> None:
    """Of a hundred first downloads sixty start at once, the others ten minutes later."""
    dues = plan([_first(f"{n:03}") for n in range(100)], Allowance(450, 0), [], NOW)
    reason = "60 exports in 10 minutes are Amplitude's limit"
    assert {due[1:] for due in dues[:60]} == {(NOW, None)}
    assert {due[1:] for due in dues[60:]} == {(NOW + WINDOW_MS, reason)}


def test_the_window_counts_recent_requests() -> None:
    """Also for cohorts that skip the pacing."""
    (due,) = plan([_manual("a")], Allowance(450, 0), [NOW - 60_000] * 60, NOW)
    assert due.due_at == NOW - 60_000 + WINDOW_MS


def test_requests_of_a_clock_that_was_set_back_hide_no_recent_ones() -> None:
    """Both are in the download log; only the recent ones count."""
    recent = [*[NOW - 60_000] * 60, *[NOW + HOUR_MS] * 60]
    (due,) = plan([_manual("a")], Allowance(450, 0), recent, NOW)
    assert due.due_at == NOW - 60_000 + WINDOW_MS
