"""Amplitude's cohort webhook as a source of requests: the whole cohort first, then differences.

Whoever does not answer 200 within two seconds gets the same message, with the same id, again.

Source: Amplitude cohort webhook page, 2026. It does not tell how often; the defaults are
the number of its event webhooks, in less time.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import anyio
import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout

from relay.sandbox.answers import JsonObject
from relay.sandbox.cohort_files import iterate
from relay.sandbox.cohort_messages import PushMessage, PushOptions, Update, make_messages
from relay.sandbox.cohort_project import StandInCohort
from relay.sandbox.onesignal import Target

_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "Amplitude/Webhook/1.0"}
_SUCCESS: Final = 200


@dataclass(slots=True)
class PushAccount:
    """What was sent, and what came of it.

    Attributes:
        messages: In the order of sending, duplicates included.
        acknowledged: Message id to the JSON of its first answer with 200.
        failed: Ids of messages given up after the last attempt.
        answers: How often each status came; also `timeout` and `connection`.
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
        pushed: Cohort id to the users the hook was last told of.
    """

    def __init__(self, target: Target, options: PushOptions | None = None) -> None:
        self._target = target
        self._options = options or PushOptions()
        self._rng = Random(self._options.seed)  # noqa: S311 - messages, not secrets
        self.pushed: dict[str, dict[str, None]] = {}

    async def push(self, cohort: StandInCohort, *, is_full: bool = False) -> PushAccount:
        """Tell the hook of a cohort: all of it the first time, then the differences.

        A message that fails is not made up for later, as Amplitude shows a sync that
        failed in part as done.
        """
        before = {} if is_full else self.pushed.get(cohort.id, {})
        after = dict.fromkeys(iterate(cohort.user_ids))
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
        """Send any update, and return when each message was acknowledged or given up."""
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
        """Bring one message to its end; enters with a slot held, which it gives back."""
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
        """Return whether a message was acknowledged at this attempt."""
        try:
            async with session.post(
                self._target.url, data=message.body, allow_redirects=False
            ) as response:
                account.answers[str(response.status)] += 1
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
