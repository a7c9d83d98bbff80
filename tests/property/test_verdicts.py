"""Answers of every kind, even impossible ones."""

from typing import NamedTuple

import orjson
from hypothesis import given
from hypothesis import strategies as st

from relay.amplitude.judge import REJECTING_FIELDS, judge_upload
from relay.amplitude.verdicts import Dead, Hold, Requeue, Settled, UploadReply
from relay.delivery.batching import halve, regroup
from relay.upstream.client import MAX_RETRY_AFTER_S, parse_retry_after


class Ids(NamedTuple):
    """The ids by which an answer may name an event."""

    device_id: str | None
    user_id: str | None


names = st.sampled_from(["a", "b", "c", None])
ids = st.builds(Ids, names, names)
uploads = st.lists(ids, min_size=1, max_size=40)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
indices = st.lists(st.integers(-3, 45) | junk, max_size=8)
fields = st.dictionaries(st.sampled_from(["time", "device_id"]) | st.text(), indices | junk)
answers = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400, 429]) | junk,
        "error": st.text() | junk,
        **dict.fromkeys(REJECTING_FIELDS, fields | junk),
        **dict.fromkeys(["silenced_events", "throttled_events"], indices | junk),
        "silenced_devices": st.lists(names | junk) | junk,
        "throttled_devices": st.dictionaries(st.sampled_from("abc"), junk) | junk,
        "exceeded_daily_quota_users": st.dictionaries(st.sampled_from("abc"), junk) | junk,
    },
)
statuses = st.sampled_from([None, 200, 400, 401, 403, 404, 408, 413, 429, 500, 503]) | st.integers(
    100, 999
)


@given(statuses, answers | junk, uploads)
def test_every_answer_gets_a_verdict_that_fits_its_upload(
    status: int | None, answer: object, upload: list[Ids]
) -> None:
    """No answer raises; a settled upload has one outcome for each event."""
    body = orjson.dumps(answer)
    verdict = judge_upload(UploadReply(status, body), upload)
    if isinstance(verdict, Settled):
        assert len(verdict.outcomes) == len(upload)


@given(statuses, st.binary(max_size=200), uploads)
def test_no_bytes_raise(status: int | None, body: bytes, upload: list[Ids]) -> None:
    """Garbage is an answer like any other."""
    judge_upload(UploadReply(status, body), upload)


@given(st.data(), uploads, st.sampled_from(sorted(REJECTING_FIELDS)))
def test_the_indices_of_a_400_name_exactly_their_rows(
    data: st.DataObject, upload: list[Ids], key: str
) -> None:
    """Whatever else is listed, exactly the named rows are dead-lettered."""
    named = data.draw(st.sets(st.integers(0, len(upload) - 1), min_size=1))
    other_indices = st.integers(len(upload), 2**63) | st.integers(-(2**63), -1) | st.booleans()
    listed = data.draw(st.permutations([*named, *data.draw(st.lists(other_indices))]))
    body = orjson.dumps({"code": 400, key: {"field": listed}})
    verdict = judge_upload(UploadReply(400, body), upload)
    assert isinstance(verdict, Settled)
    dead = {place for place, outcome in enumerate(verdict.outcomes) if isinstance(outcome, Dead)}
    assert dead == named
    assert {type(o) for place, o in enumerate(verdict.outcomes) if place not in named} <= {Requeue}


@given(statuses, answers, uploads)
def test_requeued_events_are_complete_ordered_and_fewer(
    status: int | None, answer: object, upload: list[Ids]
) -> None:
    """No event is lost or repeated, and no batch is ever resent unchanged."""
    verdict = judge_upload(UploadReply(status, orjson.dumps(answer)), upload)
    if not isinstance(verdict, Settled):
        return
    places = range(len(upload))
    parts = regroup(places, verdict)
    again = [place for part in parts for place in part]
    assert again == [p for p in places if isinstance(verdict.outcomes[p], Requeue)]
    assert all(parts)
    assert all(len(part) < len(upload) for part in parts)


@given(st.lists(st.integers()))
def test_halves_are_the_whole_and_smaller(items: list[int]) -> None:
    """Halving loses nothing and always shrinks a batch of several events."""
    halves = halve(items)
    assert [item for half in halves for item in half] == items
    assert all(halves)
    assert len(items) < 2 or all(len(half) < len(items) for half in halves)


@given(answers, uploads)
def test_a_held_or_requeued_event_is_never_dead(
    answer: dict[str, object], upload: list[Ids]
) -> None:
    """Throttling and quotas alone never dead-letter."""
    gentle = {key: value for key, value in answer.items() if key.startswith(("thr", "exc", "code"))}
    for status in (400, 429):
        verdict = judge_upload(UploadReply(status, orjson.dumps(gentle)), upload)
        if isinstance(verdict, Settled):
            assert all(isinstance(outcome, Hold | Requeue) for outcome in verdict.outcomes)


dates = st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S")) | st.text()
zones = st.sampled_from([" GMT", " -0000", " +0000", " +9999", "", " EST"])
headers = st.none() | st.text() | st.builds("{}{}".format, dates, zones) | st.integers().map(str)


@given(headers, headers)
def test_a_retry_after_is_seconds_or_nothing(value: str | None, date: str | None) -> None:
    """No header raises; what is understood lies within a day."""
    wait_s = parse_retry_after(value, date, now_s=1.8e9)
    assert wait_s is None or 0.0 <= wait_s <= MAX_RETRY_AFTER_S
