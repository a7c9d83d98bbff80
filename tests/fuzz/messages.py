"""Promises for any body of the cohorts webhook."""

from typing import Final

from relay.amplitude.cohort_message import MAX_ID_CHARACTERS, parse_message
from relay.errors import PayloadError
from tests.fuzz.reasons import known

REASONS: Final = {"broken_json", "not_an_object", "missing_field", "wrong_type", "id_too_long"}
ABSURD_MS: Final = 4_102_444_800_000


def check_message(data: bytes) -> None:
    """A message is parsed whole, or rejected with a reason that quotes nothing of it."""
    try:
        message = parse_message(data)
    except PayloadError as error:
        known(error.reason, REASONS)
        return
    assert parse_message(data) == message
    assert 0 < message.computed_at < ABSURD_MS
    ids = (message.cohort_id, message.message_id, *message.user_ids)
    assert all(0 < len(text) <= MAX_ID_CHARACTERS and "\0" not in text for text in ids)
    assert len(set(message.user_ids)) == len(message.user_ids)
    assert message.empty_ids >= 0
    "".join((*ids, message.cohort_name)).encode()
