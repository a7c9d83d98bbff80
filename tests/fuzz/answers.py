"""Promises for any response of Amplitude's and OneSignal's."""

from dataclasses import dataclass
from math import inf
from typing import Final

from yarl import URL

from relay.amplitude.cohort_list import MAX_COUNT, read_cohorts, read_usage
from relay.amplitude.events_api import without_key
from relay.amplitude.judge import judge_upload
from relay.amplitude.verdicts import Dead, Hold, Settled, UploadReply, name_outcome
from relay.errors import UpstreamUnavailable
from relay.upstream.client import (
    MAX_QUOTED,
    MAX_RETRY_AFTER_S,
    Answer,
    log_safe,
    parse_link,
    parse_retry_after,
)
from tests.fuzz.reasons import known

KEY: Final = "0123456789abcdef0123456789abcdef"
STATUSES: Final = (200, 400, 413, 429, 403, 404, 500, 503)
NOW_S: Final = 1_767_261_906.4
BASES: Final = (URL("https://amplitude.com/api"), URL("http://127.0.0.1:8080/a/b"))
MAX_WAIT_S: Final = 86_400.0
LIST_ERRORS: Final = {
    "Amplitude's list of cohorts is not JSON.",
    "Amplitude's list of cohorts lacks the field cohorts.",
}


@dataclass(frozen=True)
class Ids:
    """The parts of an event by which a response may name it."""

    device_id: str | None
    user_id: str | None


EVENTS: Final = (Ids("d-0", "u-0"), Ids(None, "u-1"), Ids("d-2", None), Ids("d-0", "u-3"))


def check_upload(data: bytes) -> None:
    """Whatever the response to an upload, each event has one outcome, without the key."""
    for status in STATUSES:
        body = data if status == STATUSES[0] else without_key(data, KEY)
        for events in (EVENTS, EVENTS[:1]):
            verdict = judge_upload(UploadReply(status, body, 1.5), events)
            assert name_outcome(verdict)
            if isinstance(verdict, Settled):
                _check_settled(verdict, events, status)
            if _names_error(data):
                assert KEY not in repr(verdict) or _names_key_elsewhere(data)


def check_answers(data: bytes) -> None:
    """A list or a count is read or rejected; what is read can be stored."""
    said = log_safe(Answer(400, data, None).fields().values(), (KEY,))
    assert len(said) <= MAX_QUOTED + 1
    assert KEY not in said
    assert said.isprintable()
    usage = read_usage(data)
    assert usage is None or (0 <= usage.used <= MAX_COUNT and 0 <= usage.limit <= MAX_COUNT)
    try:
        cohorts = read_cohorts(data)
    except UpstreamUnavailable as error:
        known(str(error), LIST_ERRORS)
        return
    for cohort in cohorts:
        assert cohort.id
        assert cohort.name
        assert 0 <= cohort.size <= MAX_COUNT
        assert min(cohort.last_computed_at, cohort.last_mod_at) >= 0
        f"{cohort.id}{cohort.name}".encode()


def check_headers(data: bytes) -> None:
    """A wait is a sensible number of seconds; a link is http(s) and never downgrades."""
    text = data.decode("utf-8", "surrogateescape")
    value, _, date = text.partition("\n")
    for now_s in (NOW_S, inf):
        wait_s = parse_retry_after(value, date or None, now_s=now_s)
        assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S == MAX_WAIT_S
    for base in BASES:
        link = parse_link(value, base=base)
        if link is not None:
            assert link.host
            assert link.scheme == "https" or link.scheme == base.scheme == "http"


def _check_settled(verdict: Settled, events: tuple[Ids, ...], status: int) -> None:
    assert len(verdict.outcomes) == len(events)
    for ids, outcome in zip(events, verdict.outcomes, strict=True):
        if isinstance(outcome, Hold):
            assert outcome.devices | outcome.users <= {ids.device_id, ids.user_id}
            assert outcome.devices | outcome.users
            assert outcome.wait_s is None or 0 <= outcome.wait_s <= MAX_WAIT_S
        elif isinstance(outcome, Dead):
            assert status == 400
            assert len(outcome.detail) <= 2 * MAX_QUOTED + 20


def _names_error(data: bytes) -> bool:
    return isinstance(Answer(0, data, None).fields().get("error"), str)


def _names_key_elsewhere(data: bytes) -> bool:
    """Return whether a response has the key anywhere but in its error text."""
    rest = {
        name: value for name, value in Answer(0, data, None).fields().items() if name != "error"
    }
    return KEY in repr(rest)
