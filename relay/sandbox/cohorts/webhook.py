"""Amplitude's cohort webhook as a source of requests: a whole cohort first, then differences.

A message holds a batch of users who all enter or all leave, and its id says which. If the
hook does not answer 200 within two seconds, the same message is sent again.

Source: Amplitude cohort webhook page, 2026. It states neither the size of a batch nor the
number of attempts; that default is the number of its event webhooks, in less time.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import anyio
import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt

from relay.sandbox.cohorts.files import iterate
from relay.sandbox.cohorts.project import StandInCohort
from relay.sandbox.common.replies import JsonObject
from relay.sandbox.common.target import Target, new_uuid

_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "Amplitude/Webhook/1.0"}
_SUCCESS: Final = 200


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
        is_entering: Whether its users enter the cohort or leave it.
        user_ids: The users.
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
        entering: The new users.
        leaving: The users no longer in it.
    """

    cohort_id: str
    cohort_name: str
    computed_s: int
    entering: Sequence[str] = ()
    leaving: Sequence[str] = ()


def make_messages(update: Update, options: PushOptions, rng: Random) -> list[PushMessage]:
    """Return the messages of an update in the order of sending, duplicates included."""
    run_id, size = new_uuid(rng), options.users_per_message
    extra = {} if options.properties is None else {"user_properties": options.properties}
    messages = []
    for word, users in (("enter", update.entering), ("exit", update.leaving)):
        for start in range(0, len(users), size):
            names, message_id = users[start : start + size], f"{run_id}::{word}::{start // size}"
            body = {
                "cohort_name": update.cohort_name,
                "cohort_id": update.cohort_id,
                "in_cohort": word == "enter",
                "computed_time": str(update.computed_s),
                "message_id": message_id,
                "users": [{"user_id": name, **extra} for name in names],
            }
            is_entering = word == "enter"
            messages.append(PushMessage(message_id, is_entering, tuple(names), orjson.dumps(body)))
    messages += [message for message in messages if rng.random() < options.duplicate_rate]
    if options.is_shuffled:
        rng.shuffle(messages)
    return messages


@dataclass(slots=True)
class PushAccount:
    """What was sent, and how it was answered.

    Attributes:
        messages: In the order of sending, duplicates included.
        acknowledged: Message id to the JSON of its first answer with 200.
        failed: Ids of messages given up after the last attempt.
        answers: Number of answers of each status, and of `timeout` and `connection`.
    """

    messages: list[PushMessage] = field(default_factory=list)
    acknowledged: dict[str, JsonObject] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    def summary(self) -> JsonObject:
        """Return it as JSON, without the users."""
        return {
            "messages": [message.message_id for message in self.messages],
            "entering": _distinct(message for message in self.messages if message.is_entering),
            "leaving": _distinct(message for message in self.messages if not message.is_entering),
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "answers": dict(self.answers),
        }


def _distinct(messages: Iterable[PushMessage]) -> int:
    return len({name for message in messages for name in message.user_ids})


class CohortPush:
    """Amplitude's sync of cohorts to one webhook.

    Attributes:
        pushed: Cohort id to the members the hook was last sent.
    """

    def __init__(self, target: Target, options: PushOptions | None = None) -> None:
        self._target = target
        self._options = options or PushOptions()
        self._rng = Random(self._options.seed)  # noqa: S311 - messages, not secrets
        self.pushed: dict[str, dict[str, None]] = {}

    async def push(self, cohort: StandInCohort, *, is_full: bool = False) -> PushAccount:
        """Send a cohort: all of it the first time or if `is_full`, then differences."""
        before = {} if is_full else self.pushed.get(cohort.id, {})
        after = dict.fromkeys(iterate(cohort.user_ids))
        # Before it is sent: like Amplitude, a sync that fails in part counts as done.
        self.pushed[cohort.id] = after
        update = Update(
            cohort.id,
            cohort.name,
            cohort.last_computed_s or 0,
            [name for name in after if name not in before],
            [name for name in before if name not in after],
        )
        return await self.send(update)

    async def send(self, update: Update) -> PushAccount:
        """Send an update, and return when each message is acknowledged or given up."""
        account = PushAccount(make_messages(update, self._options, self._rng))
        slots = anyio.Semaphore(self._options.concurrency)
        async with (
            ClientSession(
                timeout=ClientTimeout(total=self._options.timeout_s),
                headers={**self._target.all_headers(), **_HEADERS},
            ) as session,
            anyio.create_task_group() as tasks,
        ):
            for message in account.messages:
                await slots.acquire()
                tasks.start_soon(
                    self._deliver, session, message, account, slots, name="sandbox cohort message"
                )
        return account

    async def _deliver(
        self,
        session: ClientSession,
        message: PushMessage,
        account: PushAccount,
        slots: anyio.Semaphore,
    ) -> None:
        """Send a message until it is acknowledged or given up, then release its slot."""
        options = self._options
        try:
            for attempt in range(options.max_attempts):
                if await self._post(session, message, account):
                    return
                if attempt + 1 < options.max_attempts:
                    delay_s = options.retry_base_s * 2.0**attempt
                    await anyio.sleep(min(options.retry_cap_s, delay_s))
            account.failed.append(message.message_id)
        finally:
            slots.release()

    async def _post(
        self, session: ClientSession, message: PushMessage, account: PushAccount
    ) -> bool:
        """Make one attempt, and return whether it was acknowledged."""
        try:
            async with session.post(
                self._target.url, data=message.body, allow_redirects=False
            ) as response:
                account.answers[str(response.status)] += 1
                # Only 200: neither a redirect nor another 2xx is an acknowledgement.
                if response.status != _SUCCESS:
                    return False
                answer = await response.read()
        except TimeoutError:
            account.answers["timeout"] += 1
            return False
        except ClientError:
            account.answers["connection"] += 1
            return False
        account.acknowledged.setdefault(message.message_id, _read_object(answer))
        return True


def _read_object(body: bytes) -> JsonObject:
    """Return the JSON object in a body; an empty one if there is none."""
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}
