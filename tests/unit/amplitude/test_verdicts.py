"""What each documented, observed or broken answer means for the events of an upload."""

import json
from typing import NamedTuple

import pytest

from relay.amplitude.judge import QUOTA_HOLD_S, judge_upload
from relay.amplitude.verdicts import (
    Dead,
    Delivered,
    Forbidden,
    Halt,
    Hold,
    Requeue,
    Retry,
    Settled,
    Split,
    UploadReply,
    Verdict,
)


class Ids(NamedTuple):
    """The ids by which an answer may name an event."""

    device_id: str | None
    user_id: str | None


EVENTS = [Ids(f"id{number}", f"u{number}") for number in range(8)]


def _judge(
    status: int | None, body: object = None, *, retry_after_s: float | None = None
) -> Verdict:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge_upload(UploadReply(status, raw, retry_after_s), EVENTS)


def _fates(verdict: Verdict) -> str:
    """Return a letter for each event: Delivered, Requeue, Hold or dead (X)."""
    assert isinstance(verdict, Settled)
    letters = {Delivered: "D", Requeue: "R", Hold: "H", Dead: "X"}
    return "".join(letters[type(outcome)] for outcome in verdict.outcomes)


def _reasons(verdict: Verdict) -> list[str]:
    assert isinstance(verdict, Settled)
    return [outcome.reason for outcome in verdict.outcomes if isinstance(outcome, Dead | Hold)]


def test_a_confirmed_200_delivers_every_event() -> None:
    """Body A of the reference settles the whole upload."""
    body = {
        "code": 200,
        "events_ingested": 50,
        "payload_size_bytes": 50,
        "server_upload_time": 1396381378123,
    }
    assert _fates(_judge(200, body)) == "DDDDDDDD"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>ok</html>", b"{}", b"[]", b"null", b"200", b'{"code":200', b"\xff\xfe"),
        *({"code": None}, {"code": "200"}, {"code": True}, {"code": 400}, {"code": [200]}),
        *({"code": {"code": 200}}, [{"code": 200}], {"CODE": 200}, {"status": 200}),
    ],
)
def test_an_unconfirmed_200_is_retried(body: object) -> None:
    """A proxy's 200, or half an answer, delivers nothing and dead-letters nothing."""
    verdict = _judge(200, body, retry_after_s=7.0)
    assert isinstance(verdict, Retry)
    assert verdict.retry_after_s == 7.0


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 304, 307, 308, 408])
def test_other_answers_that_settle_nothing_are_retried(status: int) -> None:
    """Only 200 confirms, whatever the body of another answer claims."""
    assert isinstance(_judge(status, {"code": 200}), Retry)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"code":200}', b'{"code":400,"error":"x"}'])
def test_a_server_error_is_retried(status: int, body: bytes) -> None:
    """The outcome is unknown, whatever the body says."""
    assert _judge(status, body, retry_after_s=3.0) == Retry(f"status {status}", 3.0)


def test_no_answer_is_retried() -> None:
    """A broken exchange says nothing about the events."""
    assert judge_upload(UploadReply(None, failure="reset"), EVENTS) == Retry("reset")


@pytest.mark.parametrize(
    "error", ["Invalid API key", "Invalid API key: [api key]", "Invalid API key: 0123"]
)
def test_a_bad_key_halts_and_its_text_is_dropped(error: str) -> None:
    """The documented and the live text both halt; neither is kept."""
    verdict = _judge(400, {"code": 400, "error": error})
    assert isinstance(verdict, Halt)
    assert "0123" not in verdict.reason


@pytest.mark.parametrize(
    "body",
    [
        {"code": 400, "error": "Request missing required field", "missing_field": "api_key"},
        {"code": 400, "error": "Request missing required field", "missing_field": "events"},
        *(
            {"code": 400, "error": f"{words}"}
            for words in ("Invalid request path", "invalid api key")
        ),
        *({"code": 400, "error": word} for word in ("Missing request body", "Invalid event JSON")),
        {"code": 400, "error": "Invalid JSON request body"},
        {"code": 400, "error": "Invalid field values on some events"},
        *(b"", b"<html><h1>400 Bad Request</h1>", b"{", b"[]", b"null", b"7", b"\x00"),
        {"code": 400, "error": 5},
        {"code": 400, "error": ["Invalid API key"]},
        {"code": 400, "events_with_invalid_fields": {}},
        {"code": 400, "events_with_invalid_fields": {"time": []}},
        {"code": 400, "events_with_invalid_fields": [3]},
        {"code": 400, "events_with_missing_fields": {"time": 3}},
        {"code": 400, "events_with_missing_fields": {"time": {"3": 3}}},
        {"code": 400, "events_with_missing_fields": "event_type"},
        {"code": 400, "silenced_events": 3, "silenced_devices": "id3", "throttled_events": "3"},
        {"code": 400, "events_with_invalid_fields": {"time": [-1, 8, 10**30, 1.0, "3", None, [3]]}},
        {"code": 400, "events_with_invalid_fields": {"time": [True, False]}},
        {"code": 400, "silenced_events": [True], "throttled_events": [False, 8, -1]},
        {"code": 400, "silenced_devices": ["stranger"], "throttled_devices": {"stranger": 31}},
    ],
)
def test_a_400_that_names_no_row_is_split(body: object) -> None:
    """Request-level texts, garbage and unknown indices all lead to halving, not to dead letters."""
    verdict = _judge(400, body)
    assert isinstance(verdict, Split)
    assert verdict.reason == "rejected"
    assert not verdict.is_size


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("events_with_missing_fields", "missing_field"),
        ("events_with_invalid_fields", "invalid_field"),
        ("events_with_invalid_id_lengths", "invalid_id_length"),
    ],
)
def test_rows_named_by_a_field_are_dead_lettered_with_its_name(key: str, reason: str) -> None:
    """Bodies C and D: the listed rows are dead-lettered, the others are resent."""
    verdict = _judge(400, {"code": 400, "error": "Words", key: {"device_id": [3, 4, 7]}})
    assert _fates(verdict) == "RRRXXRRX"
    assert isinstance(verdict, Settled)
    assert not verdict.is_partial
    assert verdict.outcomes[3] == Dead(reason, "400 Words (device_id)")


@pytest.mark.parametrize("indices", [[3], [3, 3], [3, 99], [3, -1], [3, True], [3, "4"]])
def test_one_named_row_may_hide_others(indices: list[object]) -> None:
    """HTTP V2 names only the first failing event, so the rest is suspect."""
    verdict = _judge(400, {"events_with_invalid_fields": {"time": indices}})
    assert _fates(verdict) == "RRRXRRRR"
    assert isinstance(verdict, Settled)
    assert verdict.is_partial


def test_several_fields_each_name_their_rows() -> None:
    """A row may fail in several fields; it is dead-lettered once, for the first."""
    body = {
        "code": 400,
        "error": "Words",
        "events_with_missing_fields": {"event_type": [0, 1]},
        "events_with_invalid_fields": {"time": [1, 2], "language": [5, 6]},
    }
    verdict = _judge(400, body)
    assert _fates(verdict) == "XXXRRXXR"
    assert _reasons(verdict) == ["missing_field"] * 2 + ["invalid_field"] * 3


def test_a_missing_field_beside_named_rows_does_not_kill_the_others() -> None:
    """The documented example shows both keys in one body; the named rows count."""
    body = {
        "code": 400,
        "missing_field": "api_key",
        "events_with_missing_fields": {"event_type": [3, 4]},
    }
    assert _fates(_judge(400, body)) == "RRRXXRRR"


def test_silenced_devices_are_dead_lettered_and_throttled_ones_held() -> None:
    """Body E of the reference, letter for letter."""
    body = {
        "code": 400,
        "error": "Events silenced for device_id",
        "eps_threshold": 100,
        "exceeded_daily_quota_devices": {},
        "silenced_devices": ["id1", "id2"],
        "silenced_events": [5, 6],
        "throttled_devices": {"id3": 0, "id4": 100},
        "throttled_events": [3, 4],
    }
    verdict = _judge(400, body)
    assert _fates(verdict) == "RXXHHXXR"
    assert _reasons(verdict) == ["silenced"] * 2 + ["throttled"] * 2 + ["silenced"] * 2


def test_a_quota_inside_a_silenced_answer_is_held() -> None:
    """A daily quota never dead-letters, whatever answer it is in."""
    verdict = _judge(400, {"code": 400, "exceeded_daily_quota_devices": {"id0": 500_900}})
    assert _fates(verdict) == "HRRRRRRR"
    assert _reasons(verdict) == ["quota"]


def test_a_429_holds_the_named_ids_and_lets_the_others_go() -> None:
    """Body I of the reference: ids and indices are held, by device or by user."""
    body = {
        "code": 429,
        "error": "Too many requests for some devices and users",
        "eps_threshold": 30,
        "throttled_devices": {"id3": 31},
        "throttled_users": {"u4": 32},
        "throttled_events": [3, 4, 7],
    }
    verdict = _judge(429, body, retry_after_s=45.0)
    assert _fates(verdict) == "RRRHHRRH"
    assert isinstance(verdict, Settled)
    assert verdict.outcomes[3] == Hold(frozenset({"id3"}), frozenset(), 45.0, "throttled")
    assert verdict.outcomes[4] == Hold(frozenset(), frozenset({"u4"}), 45.0, "throttled")
    assert verdict.outcomes[7] == Hold(frozenset({"id7"}), frozenset(), 45.0, "throttled")


def test_a_daily_quota_holds_for_an_hour_at_least() -> None:
    """The batch API's 429: quota ids are held long, throttled ones as usual."""
    body = {
        "code": 429,
        "throttled_devices": {"id0": 4000},
        "exceeded_daily_quota_users": {"u1": 500_200},
        "exceeded_daily_quota_devices": {"id2": 500_900},
        "throttled_events": [0, 1, 2],
    }
    verdict = _judge(429, body)
    assert isinstance(verdict, Settled)
    waits = [outcome.wait_s for outcome in verdict.outcomes if isinstance(outcome, Hold)]
    assert waits == [None, QUOTA_HOLD_S, QUOTA_HOLD_S]
    longer = _judge(429, body, retry_after_s=2 * QUOTA_HOLD_S)
    assert isinstance(longer, Settled)
    assert isinstance(longer.outcomes[1], Hold)
    assert longer.outcomes[1].wait_s == 2 * QUOTA_HOLD_S


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b"{}", b"[]", {"code": 429}),
        {"code": 429, "throttled_devices": {}, "throttled_users": {}, "throttled_events": []},
        {"code": 429, "throttled_devices": {"stranger": 31}},
        {"code": 429, "throttled_events": [99, -1, True, "3"]},
        {"code": 429, "throttled_devices": "id3", "throttled_users": 4},
    ],
)
def test_a_429_without_names_slows_the_whole_app(body: object) -> None:
    """Everything waits as long as Retry-After says."""
    verdict = _judge(429, body, retry_after_s=9.0)
    assert isinstance(verdict, Retry)
    assert verdict.retry_after_s == 9.0


def test_an_event_without_device_is_held_by_its_user() -> None:
    """An index alone holds the event's sender."""
    reply = UploadReply(429, b'{"throttled_events":[0,1]}')
    verdict = judge_upload(reply, [Ids(None, "ann"), Ids("dev", None)])
    assert isinstance(verdict, Settled)
    assert verdict.outcomes == (
        Hold(frozenset(), frozenset({"ann"}), None, "throttled"),
        Hold(frozenset({"dev"}), frozenset(), None, "throttled"),
    )


def test_a_413_is_split_and_lowers_the_size() -> None:
    """Body H, also as a proxy's page."""
    assert _judge(413, {"code": 413, "error": "Payload too large"}) == Split(
        "too_large", "413 Payload too large", is_size=True
    )
    assert _judge(413, b"<html>") == Split("too_large", "413", is_size=True)


@pytest.mark.parametrize("status", [401, 403, 407, 451])
def test_a_refusal_at_the_door_says_nothing_of_an_event_alone(status: int) -> None:
    """Body G and similar: the content or the sender may be meant."""
    assert _judge(status, {"code": status, "error": "Forbidden"}) == Forbidden(
        "forbidden", f"{status} Forbidden"
    )


@pytest.mark.parametrize("status", [402, 404, 405, 406, 409, 410, 411, 414, 415, 417, 422, 431])
def test_another_4xx_refuses_the_request(status: int) -> None:
    """A batch is halved; a lone event may be dead-lettered."""
    assert _judge(status, b"gone") == Forbidden("rejected", f"{status}", blames_request=True)


def test_amplitudes_text_is_truncated() -> None:
    """A page of error text does not fill the dead letters."""
    verdict = _judge(400, {"error": "x" * 10_000, "events_with_invalid_fields": {"y" * 9999: [1]}})
    assert isinstance(verdict, Settled)
    outcome = verdict.outcomes[1]
    assert isinstance(outcome, Dead)
    assert len(outcome.detail) < 500


def test_deeply_nested_answers_are_no_error() -> None:
    """A hostile body counts like none."""
    for status in (200, 400, 403, 413, 429, 500):
        assert not isinstance(_judge(status, b"[" * 100_000), Settled)
