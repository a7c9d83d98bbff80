"""What Amplitude's responses prove about a key, and how that is reported."""

import pytest

from relay.cli.check.key_answers import (
    ASKS_FOR_EVENTS,
    KeyAnswer,
    Knowledge,
    judge_amplitude_answer,
)
from relay.cli.check.keys import RegionAnswers, describe_key

KNOWN = KeyAnswer(Knowledge.KNOWN)
UNKNOWN = KeyAnswer(Knowledge.UNKNOWN)
UNCLEAR = KeyAnswer(Knowledge.UNCLEAR, "answered 503 without JSON")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"code":200,"events_ingested":0}', KNOWN),
        (400, b'{"code":400,"error":"Invalid API key"}', UNKNOWN),
        (400, b'{"code":400,"error":"Invalid API key: abc"}', UNKNOWN),
        (400, b'{"code":400,"error":"x","events_with_missing_fields":{"event_type":[0]}}', KNOWN),
        (400, b'{"code":400,"error":"x","missing_field":"events"}', ASKS_FOR_EVENTS),
    ],
)
def test_conclusive_responses(status: int, body: bytes, expected: KeyAnswer) -> None:
    """A key is known unless Amplitude says that it is not."""
    assert judge_amplitude_answer(status, body) == expected


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b'{"code":500}'),
        (200, b"[]"),
        (302, b""),
        (400, b"<html>"),
        (403, b'{"code":403,"error":"Forbidden"}'),
        (429, b'{"code":429}'),
        (503, b""),
    ],
)
def test_inconclusive_responses(status: int, body: bytes) -> None:
    """Responses of proxies, firewalls and outages prove nothing."""
    assert judge_amplitude_answer(status, body).knowledge is Knowledge.UNCLEAR


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (403, "answered 403 without JSON"),
        (404, "does not know what was asked for (404); is the address right?"),
        (302, "sends us elsewhere (302); is the address right?"),
        (429, "takes no more requests now (429); ask again later"),
        (502, "cannot answer now (502); ask again later"),
    ],
)
def test_an_inconclusive_response_is_reported_with_what_to_do(status: int, told: str) -> None:
    """Operators have no table of statuses at hand."""
    assert judge_amplitude_answer(status, b"") == KeyAnswer(Knowledge.UNCLEAR, told)


@pytest.mark.parametrize(
    ("where", "is_ok", "text"),
    [
        (RegionAnswers(KNOWN), True, "known (us)"),
        (RegionAnswers(UNKNOWN), False, "unknown (us)"),
        (RegionAnswers(KeyAnswer(Knowledge.UNKNOWN, "why")), False, "unknown (us); why"),
        (RegionAnswers(UNCLEAR), False, "us: answered 503 without JSON"),
        (
            RegionAnswers(UNKNOWN, KNOWN),
            False,
            "this key belongs to the other region (eu): RELAY_APPS__SHOP__AMPLITUDE_REGION=eu",
        ),
        (RegionAnswers(UNKNOWN, UNKNOWN), False, "unknown in both regions (us, eu)"),
        (
            RegionAnswers(UNKNOWN, UNCLEAR),
            False,
            "unknown (us); the other region (eu): answered 503 without JSON",
        ),
    ],
)
def test_the_region_that_knows_a_key_is_reported(
    where: RegionAnswers, text: str, *, is_ok: bool
) -> None:
    """With what to do about it."""
    finding = describe_key("key of shop", "shop", where, "us", "eu")
    assert (finding.name, finding.is_ok, finding.text) == ("key of shop", is_ok, text)
