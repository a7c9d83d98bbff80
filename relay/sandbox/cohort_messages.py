"""The messages of Amplitude's cohort webhook. Pure.

A message holds a batch of users who all enter or all leave; its id tells which.

Source: Amplitude cohort webhook page, 2026, which does not tell the size of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt

from relay.sandbox.people import new_uuid


class PushOptions(BaseModel):
    """How a cohort is pushed.

    Attributes:
        users_per_message: Largest number of users in a message.
        properties: User properties sent with each user; None = no such key.
        timeout_s: Of one request, whole.
        max_attempts: Attempts per message.
        retry_base_s: Delay after the first failure; doubles with each further one.
        retry_cap_s: Longest delay.
        duplicate_rate: Share of messages sent twice.
        is_shuffled: Whether the order of the messages is lost.
        concurrency: Requests at the same time.
        seed: Another seed gives other message ids and another order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    users_per_message: PositiveInt = 1_000
    properties: dict[str, JsonValue] | None = None
    timeout_s: float = Field(default=2.0, gt=0)
    max_attempts: PositiveInt = 10
    retry_base_s: float = Field(default=0.1, ge=0)
    retry_cap_s: float = Field(default=4.0, ge=0)
    duplicate_rate: float = Field(default=0.0, ge=0, le=1)
    is_shuffled: bool = False
    concurrency: PositiveInt = 1
    seed: int = 1


@dataclass(frozen=True, slots=True)
class PushMessage:
    """One request.

    Attributes:
        message_id: The same at every attempt.
        is_entering: Whether its users enter the cohort, or leave it.
        user_ids: They.
        body: What is sent.
    """

    message_id: str
    is_entering: bool
    user_ids: tuple[str, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """What one computation of a cohort changed.

    Attributes:
        cohort_id: Id of the cohort.
        cohort_name: Its name.
        computed_s: When it was computed, in epoch seconds.
        entering: The users who are new.
        leaving: The users who are gone.
    """

    cohort_id: str
    cohort_name: str
    computed_s: int
    entering: Sequence[str] = ()
    leaving: Sequence[str] = ()


def make_messages(update: Update, options: PushOptions, rng: Random) -> list[PushMessage]:
    """Return the messages of an update, in the order of sending, duplicates included."""
    run_id, size = new_uuid(rng), options.users_per_message
    messages = []
    for word, users in (("enter", update.entering), ("exit", update.leaving)):
        for start in range(0, len(users), size):
            head: dict[str, str | bool] = {
                "cohort_name": update.cohort_name,
                "cohort_id": update.cohort_id,
                "in_cohort": word == "enter",
                "computed_time": str(update.computed_s),
                "message_id": f"{run_id}::{word}::{start // size}",
            }
            messages.append(_make_message(head, users[start : start + size], options.properties))
    messages += [message for message in messages if rng.random() < options.duplicate_rate]
    if options.is_shuffled:
        rng.shuffle(messages)
    return messages


def _make_message(
    head: Mapping[str, str | bool],
    users: Sequence[str],
    properties: Mapping[str, JsonValue] | None,
) -> PushMessage:
    extra = {} if properties is None else {"user_properties": properties}
    body = {**head, "users": [{"user_id": name, **extra} for name in users]}
    return PushMessage(
        str(head["message_id"]), bool(head["in_cohort"]), tuple(users), orjson.dumps(body)
    )
