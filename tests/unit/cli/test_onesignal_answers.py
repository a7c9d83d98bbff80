"""What OneSignal's responses prove about a key."""

import pytest

from relay.cli.check.key_answers import KeyAnswer, Knowledge, judge_onesignal_answer


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"total_count":0,"segments":[]}', Knowledge.KNOWN),
        (201, b'{"total_count":1,"segments":[{"id":"x"}]}', Knowledge.KNOWN),
        (
            403,
            b'{"success":false,"errors":["This API is not available on your plan."]}',
            Knowledge.KNOWN,
        ),
        (
            403,
            b'{"errors":["Access denied.  Please include an \'Authorization: ...\' header"]}',
            Knowledge.UNKNOWN,
        ),
        (
            401,
            b'{"errors":[{"code":"auth-1","title":"requires Authorization"}]}',
            Knowledge.UNKNOWN,
        ),
        (
            400,
            b'{"errors":["Please include a case-sensitive header of Authorization"]}',
            Knowledge.UNKNOWN,
        ),
    ],
)
def test_conclusive_responses(status: int, body: bytes, expected: Knowledge) -> None:
    """The documented shapes; a plan without the list still proves a good key."""
    assert judge_onesignal_answer(status, body) == KeyAnswer(expected)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (302, b""),
        (403, b'{"errors":["Forbidden"]}'),
        (404, b'{"errors":["not found"]}'),
        (429, b'{"errors":["slow down"]}'),
        (503, b'{"errors":["Service temporarily unavailable"]}'),
    ],
)
def test_inconclusive_responses(status: int, body: bytes) -> None:
    """Responses of proxies, limits and outages prove nothing."""
    assert judge_onesignal_answer(status, body).knowledge is Knowledge.UNCLEAR
