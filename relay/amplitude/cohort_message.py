"""One message of Amplitude's cohort webhook: bytes to users who enter a cohort, or leave it.

Customers can reshape the payload, so every field is checked: a half understood one would move the
wrong users.

Source: Amplitude, Cohort Webhooks (2026): the default payload, one direction per message,
`message_id` the same at every delivery of it, `computed_time` a text of epoch seconds.
"""

from typing import Final, NamedTuple

import orjson

from relay.errors import PayloadError
from relay.events.instants import instant_ms
from relay.events.payload import truth_of
from relay.events.texts import text_of

MAX_ID_CHARACTERS: Final = 1024
"""Amplitude's own limit."""

# From here on a JSON number without a fraction may have lost digits.
_FIRST_ROUNDED: Final = 2**53


class CohortMessage(NamedTuple):
    """Users who enter or leave a cohort together.

    Attributes:
        cohort_id: Amplitude's id of the cohort.
        cohort_name: Its name; the id if the message has none.
        is_entering: Whether the users enter; if not, they leave.
        computed_at: When Amplitude computed this, UTC epoch milliseconds.
        message_id: The same at every delivery of the message.
        user_ids: The users' ids, each once, in the message's order.
        empty_ids: Users without an id.
    """

    cohort_id: str
    cohort_name: str
    is_entering: bool
    computed_at: int
    message_id: str
    user_ids: tuple[str, ...]
    empty_ids: int


def parse_message(body: bytes) -> CohortMessage:
    """Return the message that a body of the cohort webhook holds.

    Args:
        body: The decompressed body.

    Raises:
        PayloadError: `broken_json`, `not_an_object`, `missing_field`, `wrong_type` or
            `id_too_long`, naming the field and never its value.
    """
    document = _parse(body)
    is_entering = truth_of(_required(document, "in_cohort"))
    if is_entering is None:
        raise _wrong("in_cohort", "true or false")
    computed_at = instant_ms(_required(document, "computed_time"))
    if computed_at is None:
        raise _wrong("computed_time", "a time in epoch seconds")
    cohort_id = _read_id(document, "cohort_id")
    user_ids, empty_ids = _read_users(_required(document, "users"))
    return CohortMessage(
        cohort_id=cohort_id,
        cohort_name=text_of(document.get("cohort_name")) or cohort_id,
        is_entering=is_entering,
        computed_at=computed_at,
        message_id=_read_id(document, "message_id"),
        user_ids=user_ids,
        empty_ids=empty_ids,
    )


def _parse(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise PayloadError("broken_json", f"The body is not JSON ({place}).") from error
    if not isinstance(document, dict):
        raise PayloadError("not_an_object", "The body is not a JSON object.")
    return document


def _required(document: dict[str, object], name: str) -> object:
    if name not in document:
        raise PayloadError("missing_field", f"The message has no {name}; send the default payload.")
    return document[name]


def _read_id(document: dict[str, object], name: str) -> str:
    text = _id_text(_required(document, name), name)
    if text is None:
        raise _wrong(name, "a text")
    return text


def _read_users(users: object) -> tuple[tuple[str, ...], int]:
    """Return the ids, each once, and how many users have none."""
    if not isinstance(users, list):
        raise _wrong("users", "a list")
    ids = [_user_id(user) for user in users]
    named = dict.fromkeys(user_id for user_id in ids if user_id is not None)
    return tuple(named), ids.count(None)


def _user_id(user: object) -> str | None:
    if isinstance(user, str):
        return _id_text(user, "users")
    if not isinstance(user, dict):
        raise _wrong("users", "a list of objects with a user_id")
    return _id_text(user.get("user_id"), "user_id")


def _id_text(value: object, name: str) -> str | None:
    """Return an id as text, None if it is absent or blank."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = text_of(value)
    if text is None or (isinstance(value, float) and abs(value) >= _FIRST_ROUNDED):
        raise _wrong(name, "a text or a whole number")
    if "\0" in text:  # ends a text in SQLite's JSON: the id would become another one
        raise _wrong(name, "a text without the character U+0000")
    if len(text) > MAX_ID_CHARACTERS:
        detail = f"An id in {name} has more than {MAX_ID_CHARACTERS} characters."
        raise PayloadError("id_too_long", detail)
    return text


def _wrong(name: str, wanted: str) -> PayloadError:
    return PayloadError("wrong_type", f"{name} is not {wanted}; send the default payload.")
