"""Parsing Amplitude's cohort list and usage, however incomplete or odd they are."""

import orjson
import pytest

from relay.amplitude.cohort_list import Cohort, Usage, read_cohorts, read_usage
from relay.errors import UpstreamUnavailable

RECORD: dict[str, object] = {
    "appId": 1,
    "archived": False,
    "definition": {"version": 3},
    "id": "fplg9rf",
    "name": "Paying",
    "owners": ["maya@example.com"],
    "viewers": ["li@example.com"],
    "published": True,
    "size": 111,
    "lastMod": 1679437294,
    "createdAt": None,
    "lastComputed": 1679440233,
}
COHORT = Cohort("fplg9rf", "Paying", 111, 1_679_440_233_000, 1_679_437_294_000, is_archived=False)


def _read(*records: object) -> list[Cohort]:
    return read_cohorts(orjson.dumps({"cohorts": records}))


def _read_with(**changes: object) -> Cohort:
    (cohort,) = _read({**RECORD, **changes})
    return cohort


def test_a_record_is_read_as_documented() -> None:
    """Seconds become milliseconds; owners' addresses are dropped."""
    assert _read(RECORD) == [COHORT]
    assert "example.com" not in repr(_read(RECORD))


def test_an_empty_list_is_a_list() -> None:
    """A project may have no cohorts."""
    assert _read() == []


@pytest.mark.parametrize("record", [{}, {"id": None}, {"id": " "}, {"id": []}, None, "x", 5])
def test_a_record_without_an_id_is_skipped(record: object) -> None:
    """It cannot be requested, but the others can."""
    assert _read(record, RECORD) == [COHORT]


def test_a_record_with_an_id_alone_is_a_cohort() -> None:
    """Amplitude documents most fields as nullable."""
    assert _read({"id": "a"}) == [Cohort("a", "a", 0, 0, 0, is_archived=False)]


@pytest.mark.parametrize(
    "value", ["null", '"many"', "-1", "true", "[1]", "1.5", "1e15", "1" + "0" * 30, "1e300"]
)
def test_an_odd_size_is_dropped(value: str) -> None:
    """It would end up in the database otherwise."""
    body = '{"cohorts":[{"id":"a","size":%s}]}' % value  # noqa: UP031  # braces of JSON
    assert read_cohorts(body.encode())[0].size == 0


@pytest.mark.parametrize("value", [1_679_440_233, 1_679_440_233.0, 1_679_440_233_000, "1679440233"])
def test_times_are_understood_in_other_spellings(value: object) -> None:
    """Other parts of the same API use milliseconds and texts."""
    assert _read_with(lastComputed=value).last_computed_at == 1_679_440_233_000


@pytest.mark.parametrize("value", [None, 0, -5, "soon", 1e300, {}, True])
def test_an_odd_time_is_dropped(value: object) -> None:
    """A cohort that was never computed has none."""
    cohort = _read_with(lastComputed=value, lastMod=value)
    assert (cohort.last_computed_at, cohort.last_mod_at) == (0, 0)


@pytest.mark.parametrize(("value", "is_archived"), [(True, True), (False, False), (None, False)])
def test_archived_cohorts_are_marked(value: object, is_archived: bool) -> None:  # noqa: FBT001
    """They stay in the list."""
    assert _read_with(archived=value).is_archived is is_archived


def test_numbers_as_ids_become_text() -> None:
    """An id is put into paths and compared with settings."""
    assert _read_with(id=42).id == "42"


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"cohorts":null}', b'{"cohorts":{}}', b'{"cohorts":['],
)
def test_an_invalid_list_is_rejected(body: bytes) -> None:
    """No cohort vanishes because a proxy answered."""
    with pytest.raises(UpstreamUnavailable):
        read_cohorts(body)


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"rest_download":{"limit":500,"usage":3,"resets_at":"2026-01-01T00:00:00Z"}}', (500, 3)),
        (b'{"rest_download":{"limit":500,"count":3}}', (500, 3)),
        (b'{"limit":500,"count":3}', (500, 3)),
        (b'{"limit":500.0,"usage":0}', (500, 0)),
        (b'{"limit":0,"usage":7}', (0, 7)),
        (b'{"rest_download":{"limit":500}}', None),
        (b'{"rest_download":{"usage":500}}', None),
        (b'{"rest_download":{"limit":"500","usage":3}}', None),
        (b'{"rest_download":{"limit":500,"usage":-3}}', None),
        (b'{"rest_download":{"limit":true,"usage":3}}', None),
        (b'{"rest_download":null}', None),
        (b"[500,3]", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_usage_is_read_or_ignored(body: bytes, usage: tuple[int, int] | None) -> None:
    """Only third parties document its shape; a wrong number would stop downloads."""
    assert read_usage(body) == (Usage(*usage) if usage else None)
