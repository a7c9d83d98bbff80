"""`relay dead-letters`: events Amplitude will never take, and what to do with them."""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Final

import typer
from rich.text import Text

from relay.cli.client import Client
from relay.cli.data_access import OUTBOX, open_client
from relay.cli.exit_codes import run
from relay.cli.items import PAGE_ITEMS, ItemCommands, Kind
from relay.cli.listing import walk
from relay.cli.output import instant, print_fields, print_json
from relay.clock import SystemClock
from relay.http.admin.context import OutboxContext
from relay.http.admin.dead_letters import (
    DISCARD_DEAD_LETTERS,
    LIST_DEAD_LETTERS,
    RETRY_DEAD_LETTERS,
)
from relay.http.admin.schemas import Choice, DeadLetterAnswer, Listing
from relay.settings import Settings
from relay.settings.sections import INSERT_ID_MEMORY_S

WARNING: Final = (
    "some were first tried more than 7 days ago; Amplitude has forgotten such events and counts "
    "again those that had reached it after all"
)


def _cells(letter: DeadLetterAnswer) -> Mapping[str, str | Text]:
    return {
        "id": str(letter.id),
        "app": letter.app,
        "event": letter.event_type,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": str(letter.attempts),
        "died": instant(letter.died_at),
    }


def _show(letter: DeadLetterAnswer) -> None:
    print_fields(
        {
            "id": str(letter.id),
            "app": letter.app,
            "insert_id": letter.insert_id,
            "event type": letter.event_type,
            "reason": letter.reason,
            "detail": letter.detail,
            "attempts": str(letter.attempts),
            "accepted": instant(letter.accepted_at),
            "first tried": instant(letter.first_tried_at),
            "died": instant(letter.died_at),
        }
    )
    print_json(letter.event)


def _retry(settings: Settings, choice: Choice) -> int:
    """Make dead letters pending again; warn if Amplitude may count some twice."""
    return run(partial(_warn_and_retry, settings, choice))


async def _warn_and_retry(settings: Settings, choice: Choice) -> int:
    async with open_client(settings, OUTBOX) as client:
        oldest_known_at = SystemClock().now_ms() - INSERT_ID_MEMORY_S * 1000
        async for letter in _chosen(client, choice):
            if letter.first_tried_at is not None and letter.first_tried_at < oldest_known_at:
                typer.echo(f"warning: {WARNING}", err=True)
                break
        return (await client.call(RETRY_DEAD_LETTERS, choice)).affected


async def _chosen(client: Client[OutboxContext], choice: Choice) -> AsyncIterator[DeadLetterAnswer]:
    if choice.ids is None:
        asked = Listing(app=choice.app, reason=choice.reason, limit=PAGE_ITEMS)
        async for letter in walk(client, LIST_DEAD_LETTERS, asked):
            yield letter
        return
    for number in choice.ids:
        if found := await KIND.find(client, number):
            yield found


KIND: Final = Kind(
    one="dead letter",
    many="dead letters",
    retried="put back in line",
    unretried="not found",
    list=LIST_DEAD_LETTERS,
    retry=_retry,
    discard=DISCARD_DEAD_LETTERS,
    cells=_cells,
    show=_show,
)

commands = ItemCommands(KIND).typer()
