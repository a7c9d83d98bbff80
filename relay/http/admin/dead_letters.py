"""Dead letters: list, retry, discard."""

from collections.abc import Iterable

import orjson

from relay.http.admin.context import OutboxContext
from relay.http.admin.operations import Call, Operation
from relay.http.admin.schemas import (
    Affected,
    Choice,
    DeadLetterAnswer,
    DeadLetterPage,
    Listing,
    cut_page,
)
from relay.outbox.dead_letters import DeadLetter

MAX_SHOWN_LEVELS = 100
"""Nesting of an event. Amplitude takes 40 levels; the JSON writer of answers gives up at 255."""


async def _list(context: OutboxContext, call: Call[Listing]) -> DeadLetterPage:
    asked = call.input
    found = await context.outbox.dead_letters.page(
        context.selection(asked.app, asked.reason), after=asked.after, limit=asked.limit + 1
    )
    items, following = cut_page([answer_dead_letter(letter) for letter in found], asked.limit)
    return DeadLetterPage(items=items, next=items[-1].id if following else None)


async def _retry(context: OutboxContext, call: Call[Choice]) -> Affected:
    dead_letters, asked = context.outbox.dead_letters, call.input
    selection = context.selection(asked.app, asked.reason, asked.ids)
    if asked.dry_run:
        return Affected(affected=await dead_letters.count(selection))
    try:
        return Affected(affected=await dead_letters.retry(selection))
    finally:
        # A retry is several transactions: where a later one fails, the first are committed.
        for app in context.apps.values():
            if app.delivery is not None:
                app.delivery.dispatcher.arrived(1)


async def _discard(context: OutboxContext, call: Call[Choice]) -> Affected:
    dead_letters, asked = context.outbox.dead_letters, call.input
    act = dead_letters.count if asked.dry_run else dead_letters.discard
    return Affected(affected=await act(context.selection(asked.app, asked.reason, asked.ids)))


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
        event=_json_or_text(letter.body),
    )


def _json_or_text(event: bytes) -> object:
    """Return an event as JSON, or as text if it is nested too deep to be part of an answer."""
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


LIST_DEAD_LETTERS = Operation(
    "GET", "/dead-letters", "List dead letters.", Listing, DeadLetterPage, _list
)
RETRY_DEAD_LETTERS = Operation(
    "POST", "/dead-letters/retry", "Make dead letters pending again.", Choice, Affected, _retry
)
DISCARD_DEAD_LETTERS = Operation(
    "POST", "/dead-letters/discard", "Throw dead letters away.", Choice, Affected, _discard
)

OPERATIONS = (LIST_DEAD_LETTERS, RETRY_DEAD_LETTERS, DISCARD_DEAD_LETTERS)
