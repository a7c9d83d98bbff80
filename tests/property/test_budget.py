"""What the download budget guarantees, however cohorts change and polls come."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.cohorts.budget import (
    WINDOW_MS,
    WINDOW_REQUESTS,
    Allowance,
    Candidate,
    month_of,
    month_start,
    next_month_start,
    plan,
    window_free_at,
)

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS

# From 2023-10 to 2029-03: several ends of a year, two leap years.
instants = st.integers(1_696_118_400_000, 1_869_000_000_000)
# Polls between a minute and some days apart.
pauses = st.integers(1, 30) | st.integers(100, 6_000)


@dataclass
class _Model:
    """A relay that follows the plan, and cohorts that change arbitrarily."""

    now_ms: int
    monthly: int
    periods: list[int]
    requested: list[int] = field(default_factory=list)
    last: dict[int, int] = field(default_factory=dict)
    paced: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stale = dict.fromkeys(range(len(self.periods)), self.now_ms)

    @property
    def used(self) -> int:
        """Return what the month has cost so far, as a store would count it."""
        return sum(at >= month_start(self.now_ms) for at in self.requested)

    def poll(self, *, asks_for: int | None = None) -> None:
        """Record what has changed, and download whatever is due, in the plan's order."""
        for cohort, at in self.last.items():
            changed_at = at + self.periods[cohort] * MINUTE_MS
            if changed_at <= self.now_ms:
                self.stale.setdefault(cohort, changed_at)
        candidates = [self.candidate(cohort, asks_for) for cohort in self.stale]
        due = plan(candidates, Allowance(self.monthly, self.used), self.requested, self.now_ms)
        assert sorted(item.cohort_id for item in due) == sorted(map(str, self.stale))
        assert all((item.reason is None) == (item.due_at <= self.now_ms) for item in due)
        for item in due:
            if item.reason is None:
                self._download(int(item.cohort_id), is_asked=item.cohort_id == str(asks_for))

    def candidate(self, cohort: int, asks_for: int | None) -> Candidate:
        """Return a stale cohort as the plan takes it."""
        return Candidate(
            str(cohort),
            is_first=cohort not in self.last,
            is_manual=cohort == asks_for,
            stale_since=self.stale[cohort],
            last_downloaded_at=self.last.get(cohort),
            changes=30 * DAY_MS // (self.periods[cohort] * MINUTE_MS),
        )

    def _download(self, cohort: int, *, is_asked: bool) -> None:
        if cohort in self.last and not is_asked:
            self.paced.append((self.now_ms, self.used))
        self.requested.append(self.now_ms)
        self.last[cohort] = self.now_ms
        del self.stale[cohort]


models = st.builds(
    _Model,
    now_ms=instants,
    monthly=st.integers(1, 40) | st.just(450),
    periods=st.lists(st.integers(15, 20_000), min_size=1, max_size=20)
    | st.lists(st.integers(15, 60), min_size=70, max_size=130),
)
steps = st.lists(st.tuples(pauses, st.none() | st.integers(0, 19)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(models, steps)
def test_no_month_and_no_window_has_more_than_it_allows(
    model: _Model, polls: list[tuple[int, int | None]]
) -> None:
    """Whatever the polls, the changes and the manual syncs, over several months."""
    for pause, asks_for in polls:
        model.poll(asks_for=asks_for)
        model.now_ms += pause * MINUTE_MS
    months = Counter(month_of(at) for at in model.requested)
    assert max(months.values(), default=0) <= model.monthly
    for at in model.requested:
        within = sum(at <= other < at + WINDOW_MS for other in model.requested)
        assert within <= WINDOW_REQUESTS


@settings(max_examples=60, deadline=None)
@given(models, steps)
def test_paced_downloads_never_outrun_the_month(
    model: _Model, polls: list[tuple[int, int | None]]
) -> None:
    """Each stays within the accrued credit, so the month's last day has its share."""
    for pause, asks_for in polls:
        model.poll(asks_for=asks_for)
        model.now_ms += pause * MINUTE_MS
    for at, used_before in model.paced:
        start, end = month_start(at), next_month_start(at)
        assert used_before * (end - start) <= model.monthly * (at - start)


@given(instants, st.integers(1, 600), st.integers(0, 700))
def test_next_is_the_first_instant_with_credit(now_ms: int, monthly: int, used: int) -> None:
    """Not before it, and exactly at it; asking again changes nothing."""
    allowance = Allowance(monthly, used)
    next_at = allowance.turn_at(1, now_ms, is_paced=True)
    assert now_ms <= next_at <= next_month_start(now_ms)
    if used >= monthly:
        assert next_at == next_month_start(now_ms)
        return
    assert allowance.turn_at(1, next_at, is_paced=True) == next_at
    assert next_at == now_ms or allowance.turn_at(1, next_at - 1, is_paced=True) == next_at


@given(instants, st.integers(1, 600))
def test_a_whole_month_of_eager_downloads_uses_all_of_it(now_ms: int, monthly: int) -> None:
    """The whole budget can be spent, in equal steps."""
    start, end = month_start(now_ms), next_month_start(now_ms)
    taken = [Allowance(monthly, used).turn_at(1, start, is_paced=True) for used in range(monthly)]
    assert taken[0] == start
    assert taken[-1] < end
    gaps = [later - earlier for earlier, later in zip(taken, [*taken[1:], end], strict=True)]
    assert max(gaps) - min(gaps) <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 2_880), min_size=1, max_size=30),
    st.integers(MINUTE_MS, DAY_MS),
    instants,
)
def test_a_cohort_that_rarely_changes_is_served_in_the_end(
    rates: list[int], share_ms: int, now_ms: int
) -> None:
    """Even if all others change at each poll and each time share has one download."""
    stale = {f"busy-{n}": now_ms - n for n in range(len(rates))} | {"rare": now_ms}
    last = dict.fromkeys(stale, now_ms - DAY_MS)
    changes = {f"busy-{n}": rate for n, rate in enumerate(rates)} | {"rare": 1}
    cohorts = len(stale)
    for _ in range(13 * cohorts):
        now_ms += share_ms
        line = [
            Candidate(name, False, False, since, last[name], changes[name])  # noqa: FBT003  # a row
            for name, since in stale.items()
        ]
        served = plan(line, Allowance(450, 0), [], now_ms)[0].cohort_id
        if served == "rare":
            return
        stale[served] = last[served] = now_ms
    raise AssertionError("the rare cohort starved")


@settings(max_examples=60, deadline=None)
@given(models, st.lists(st.tuples(pauses, st.integers(-90_000, 0)), max_size=40))
def test_a_clock_that_jumps_backwards_does_no_harm(
    model: _Model, steps_back: list[tuple[int, int]]
) -> None:
    """No month exceeds its total, and no wait reaches past the next month."""
    for pause, back in steps_back:
        model.poll()
        model.now_ms += (pause + back) * MINUTE_MS
        assert window_free_at(model.requested, model.now_ms) <= model.now_ms + 2 * WINDOW_MS
        upto = next_month_start(next_month_start(model.now_ms))
        candidates = [model.candidate(cohort, None) for cohort in model.stale]
        plans = plan(candidates, Allowance(model.monthly, model.used), [], model.now_ms)
        assert all(model.now_ms <= due.due_at <= upto for due in plans)
    months = Counter(month_of(at) for at in model.requested)
    assert max(months.values(), default=0) <= model.monthly


@given(
    st.lists(
        st.builds(
            Candidate,
            st.uuids().map(str),
            st.booleans(),
            st.booleans(),
            instants,
            st.none() | instants,
            st.integers(-1, 5_000),
        ),
        max_size=80,
    ),
    st.builds(
        Allowance,
        st.integers(0, 60),
        st.integers(0, 60),
        st.none() | st.tuples(st.integers(0, 60), st.integers(0, 60)),
    ),
    st.lists(instants, max_size=80),
    instants,
)
def test_every_plan_names_each_candidate_once_in_the_order_of_its_turn(
    candidates: list[Candidate], allowance: Allowance, recent: list[int], now_ms: int
) -> None:
    """Whatever the figures; a later candidate is never due earlier."""
    dues = plan(candidates, allowance, recent, now_ms)
    assert sorted(due.cohort_id for due in dues) == sorted(c.cohort_id for c in candidates)
    assert [due.due_at for due in dues] == sorted(due.due_at for due in dues)
    due_now = sum(due.reason is None for due in dues)
    assert due_now <= min(allowance.left, WINDOW_REQUESTS)
    assert plan(candidates[::-1], allowance, recent, now_ms) == dues
