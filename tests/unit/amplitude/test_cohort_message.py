from typing import Any

import orjson
import pytest

from relay.amplitude.cohort_message import MAX_ID_CHARACTERS, CohortMessage, parse_message
from relay.errors import PayloadError

BODY: dict[str, Any] = {
    "cohort_name": "My Test Cohort",
    "cohort_id": "7khm89cz",
    "in_cohort": True,
    "computed_time": "1692206763",
    "message_id": "9baaa88f-9d46-4ee5-a946-be0c6aea0046::enter::0",
    "users": [{"user_id": "user_one@example.com", "user_properties": {"country": "US"}}],
}
SECRET = "geheim"
ILL_TYPED: dict[str, list[object]] = {
    "cohort_id": [None, "", {}, [SECRET], True],
    "message_id": [None, " ", {}, False],
    "in_cohort": [None, "yes", SECRET, 1, 0, []],
    "computed_time": [None, "", SECRET, True, -5, 0, 10**15, []],
    "users": [None, SECRET, {}, 3, [None], [7], [[SECRET]], [True]],
}


def _parse(**changed: object) -> CohortMessage:
    return parse_message(orjson.dumps(BODY | changed))


def _refusal(body: bytes) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        parse_message(body)
    return caught.value


def test_the_default_payload_is_understood() -> None:
    """Amplitude sends it unless the customer reshapes it."""
    assert _parse() == CohortMessage(
        cohort_id="7khm89cz",
        cohort_name="My Test Cohort",
        is_entering=True,
        computed_at=1_692_206_763_000,
        message_id="9baaa88f-9d46-4ee5-a946-be0c6aea0046::enter::0",
        user_ids=("user_one@example.com",),
        empty_ids=0,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cohort_id", "7khm89cz\0x"),
        ("message_id", "\0m"),
        ("users", [{"user_id": "anna\0x"}]),
        ("users", ["ben", "anna\0"]),
    ],
)
def test_an_id_that_sqlite_would_cut_is_rejected(field: str, value: object) -> None:
    """Cut at U+0000 it would be the id of another cohort, message or user."""
    refusal = _refusal(orjson.dumps(BODY | {field: value}))
    assert refusal.reason == "wrong_type"
    assert "U+0000" in refusal.detail
    assert "anna" not in refusal.detail


@pytest.mark.parametrize(
    ("in_cohort", "is_entering"),
    [(True, True), (False, False), ("true", True), ("false", False), (" False ", False)],
)
def test_direction_may_be_quoted(in_cohort: object, *, is_entering: bool) -> None:
    """A custom template may well put quotes around it."""
    assert _parse(in_cohort=in_cohort).is_entering is is_entering


@pytest.mark.parametrize(
    "computed_time",
    [
        *("1692206763", 1_692_206_763, 1_692_206_763.0, "1692206763000", 1_692_206_763_000),
        *("2023-08-16T17:26:03Z", "2023-08-16T19:26:03+02:00"),
    ],
)
def test_time_of_computation_is_read_in_every_spelling(computed_time: object) -> None:
    """Seconds as text by default; numbers, milliseconds and ISO text in custom payloads."""
    assert _parse(computed_time=computed_time).computed_at == 1_692_206_763_000


@pytest.mark.parametrize("name", [None, "", "  ", {"en": "x"}])
def test_a_cohort_without_a_name_is_named_by_its_id(name: object) -> None:
    """The name is only for display."""
    assert _parse(cohort_name=name).cohort_name == "7khm89cz"
    nameless = {key: value for key, value in BODY.items() if key != "cohort_name"}
    assert parse_message(orjson.dumps(nameless)).cohort_name == "7khm89cz"


def test_numeric_ids_become_text() -> None:
    """A template that forgot the quotes names the same users, cohort and message."""
    message = _parse(cohort_id=17, message_id=18, users=[{"user_id": 42}, {"user_id": 43.0}])
    assert (message.cohort_id, message.message_id) == ("17", "18")
    assert message.user_ids == ("42", "43")


def test_plain_texts_are_ids() -> None:
    """A custom list of users may be just their ids."""
    assert _parse(users=["b", "a", " "])[-2:] == (("b", "a"), 1)


def test_users_without_an_id_are_counted() -> None:
    """They cannot be members, but the cohort has them."""
    users = [{"user_id": None}, {"user_id": ""}, {"user_id": " "}, {}, {"user_id": "a"}]
    assert _parse(users=users)[-2:] == (("a",), 4)


def test_repeated_users_count_once_in_their_order() -> None:
    """Deduplicated in message order, so that retries do the same."""
    users = [{"user_id": name} for name in ("b", "a", "b", "c", "a")]
    assert _parse(users=users).user_ids == ("b", "a", "c")


def test_a_message_without_users_is_valid() -> None:
    """It changes nothing and gets a normal response."""
    assert _parse(users=[])[-2:] == ((), 0)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b'{"a":NaN}', b"[" * 5000])
def test_broken_json_is_rejected(body: bytes) -> None:
    """It is never parsed in part."""
    assert _refusal(body).reason == "broken_json"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"[" + orjson.dumps(BODY) + b"]"])
def test_anything_but_an_object_is_rejected(body: bytes) -> None:
    """Amplitude sends one message per request."""
    assert _refusal(body).reason == "not_an_object"


@pytest.mark.parametrize("name", sorted(BODY.keys() - {"cohort_name"}))
def test_missing_fields_are_named(name: str) -> None:
    """The author of a custom payload learns what is missing."""
    refusal = _refusal(orjson.dumps({key: BODY[key] for key in BODY if key != name}))
    assert refusal.reason == "missing_field"
    assert name in refusal.detail


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in ILL_TYPED.items() for v in vs])
def test_ill_typed_fields_are_named_and_never_quoted(name: str, value: object) -> None:
    """The reason can be shown and logged, as it quotes nothing of the body."""
    refusal = _refusal(orjson.dumps(BODY | {name: value}))
    assert refusal.reason == "wrong_type"
    assert name in refusal.detail
    assert SECRET not in refusal.detail


@pytest.mark.parametrize("user_id", ["{}", "[]", "true", "1e300", "123456789012345678901234"])
def test_a_rounded_or_non_text_id_rejects_the_message(user_id: str) -> None:
    """An id with lost digits would be another user's."""
    body = orjson.dumps(BODY | {"users": [{"user_id": "PLACE"}]})
    refusal = _refusal(body.replace(b'"PLACE"', user_id.encode()))
    assert refusal.reason == "wrong_type"
    assert "user_id" in refusal.detail


@pytest.mark.parametrize("user", ["x" * 1025, {"user_id": "x" * 1025}])
def test_endless_ids_are_rejected(user: object) -> None:
    """No user's id is that long; it must be something else."""
    refusal = _refusal(orjson.dumps(BODY | {"users": [user]}))
    assert refusal.reason == "id_too_long"
    assert "xx" not in refusal.detail
    assert _parse(users=["ä" * MAX_ID_CHARACTERS]).user_ids == ("ä" * 1024,)
    assert _refusal(orjson.dumps(BODY | {"message_id": "x" * 1025})).reason == "id_too_long"
