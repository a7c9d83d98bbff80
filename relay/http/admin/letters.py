"""Dead letters and quarantine: list, retry, discard."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import orjson

from relay.http.admin.context import AdminContext
from relay.http.admin.operations import AnyOperation, Call, Operation
from relay.http.admin.schemas import (
    Affected,
    Choice,
    DeadLetterAnswer,
    DeadLetterPage,
    Listing,
    QuarantinedAnswer,
    QuarantinePage,
)
from relay.outbox.dead_letters import DeadLetter
from relay.outbox.quarantine import Quarantined, is_full
from relay.outbox.selection import Selection

MAX_SHOWN_LEVELS = 100
"""Of an event. Amplitude takes 40; what writes answers gives up at 255."""

Item = TypeVar("Item")


class Letters:
    """The operations on what did not reach Amplitude."""

    def __init__(self, parts: AdminContext) -> None:
        self._parts = parts

    def operations(self) -> list[AnyOperation]:
        """Return them."""
        listings = [
            ("/dead-letters", "List dead letters.", DeadLetterPage, self.list_dead_letters),
            ("/quarantine", "List quarantined bodies.", QuarantinePage, self.list_quarantine),
        ]
        actions = [
            ("/dead-letters/retry", "Make dead letters pending again.", self.retry_dead_letters),
            ("/dead-letters/discard", "Throw dead letters away.", self.discard_dead_letters),
            ("/quarantine/retry", "Read quarantined bodies once more.", self.retry_quarantine),
            ("/quarantine/discard", "Throw quarantined bodies away.", self.discard_quarantine),
        ]
        return [
            *(
                Operation("GET", path, summary, Listing, answer, handle)
                for path, summary, answer, handle in listings
            ),
            *(
                Operation("POST", path, summary, Choice, Affected, handle)
                for path, summary, handle in actions
            ),
        ]

    async def list_dead_letters(self, call: Call[Listing]) -> DeadLetterPage:
        """Return a page of dead letters, oldest first."""
        asked = call.asked
        found = await self._parts.outbox.dead_letters.page(
            self._parts.selection(asked.app, asked.reason),
            after=asked.after,
            limit=asked.limit + 1,
        )
        items, following = cut_page([answer_dead_letter(letter) for letter in found], asked.limit)
        return DeadLetterPage(items=items, next=items[-1].id if following else None)

    async def retry_dead_letters(self, call: Call[Choice]) -> Affected:
        """Put dead letters back in line."""
        dead_letters = self._parts.outbox.dead_letters
        try:
            return await self._act(call.asked, dead_letters.count, dead_letters.retry)
        finally:  # also after a part of them
            for delivery in self._parts.deliveries.values():
                delivery.dispatcher.arrived(1)

    async def discard_dead_letters(self, call: Call[Choice]) -> Affected:
        """Throw dead letters away."""
        dead_letters = self._parts.outbox.dead_letters
        return await self._act(call.asked, dead_letters.count, dead_letters.discard)

    async def list_quarantine(self, call: Call[Listing]) -> QuarantinePage:
        """Return a page of quarantined bodies, oldest first."""
        asked = call.asked
        found = await self._parts.outbox.quarantine.page(
            self._parts.selection(asked.app, asked.reason),
            after=asked.after,
            limit=asked.limit + 1,
        )
        return answer_bodies(found, asked.limit)

    async def retry_quarantine(self, call: Call[Choice]) -> Affected:
        """Read bodies again; those understood now leave the quarantine."""
        quarantine, chosen = self._parts.outbox.quarantine, self._chosen(call.asked)
        dry_run = call.asked.dry_run
        events = await self._parts.reception.read_again(
            quarantine, chosen, self._parts.sources, dry_run=dry_run
        )
        messages = await self._parts.cohort_reception.read_again(
            quarantine, chosen, dry_run=dry_run
        )
        return Affected(affected=events + messages)

    async def discard_quarantine(self, call: Call[Choice]) -> Affected:
        """Throw quarantined bodies away."""
        quarantine = self._parts.outbox.quarantine
        return await self._act(call.asked, quarantine.count, quarantine.discard)

    async def _act(
        self,
        asked: Choice,
        count: Callable[[Selection], Awaitable[int]],
        act: Callable[[Selection], Awaitable[int]],
    ) -> Affected:
        """Act on what is selected, or only count it."""
        return Affected(affected=await (count if asked.dry_run else act)(self._chosen(asked)))

    def _chosen(self, asked: Choice) -> Selection:
        return self._parts.selection(asked.app, asked.reason, asked.ids)


def answer_bodies(found: Sequence[Quarantined], limit: int) -> QuarantinePage:
    """Return a page of bodies, given one too many or as many as are read at once."""
    items, following = cut_page([answer_quarantined(body) for body in found], limit)
    more = following or is_full(found)
    return QuarantinePage(items=items, next=items[-1].id if more else None)


def cut_page(found: Sequence[Item], limit: int) -> tuple[list[Item], bool]:
    """Return the items of a page and whether more follow, given one item too many."""
    return list(found[:limit]), len(found) > limit


def answer_dead_letter(letter: DeadLetter) -> DeadLetterAnswer:
    """Return a dead letter as the API shows it."""
    return DeadLetterAnswer(
        id=letter.id,
        app=letter.app,
        insert_id=letter.insert_id,
        event_type=letter.event_type,
        reason=letter.reason,
        detail=letter.detail,
        attempts=letter.attempts,
        accepted_at=letter.accepted_at,
        first_tried_at=letter.first_tried_at,
        died_at=letter.died_at,
        event=_shown(letter.body),
    )


def _shown(event: bytes) -> object:
    """Return an event as JSON, or as text if it is nested too deep to be a part of an answer."""
    document: object = orjson.loads(event)
    values = [document]
    for _ in range(MAX_SHOWN_LEVELS):
        values = [inner for value in values for inner in _values_in(value)]
        if not values:
            return document
    return event.decode()


def _values_in(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def answer_quarantined(body: Quarantined) -> QuarantinedAnswer:
    """Return a quarantined body as the API shows it: as text where it is text."""
    try:
        text, encoding = body.body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = b64encode(body.body).decode(), "base64"
    return QuarantinedAnswer.model_validate(
        {
            "id": body.id,
            "app": body.app,
            "hook": body.hook,
            "reason": body.reason,
            "detail": body.detail,
            "received_at": body.received_at,
            "body": text,
            "encoding": encoding,
        }
    )
