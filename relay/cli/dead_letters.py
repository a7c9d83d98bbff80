"""`relay dead-letters`: events Amplitude will never take, and what becomes of them."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from relay.cli.admin_api import AdminApi
from relay.cli.desk import Desk, find, walk
from relay.cli.letter_commands import LetterCommands
from relay.cli.letters import Letters, Words
from relay.cli.local_desk import LocalDeadLetters
from relay.cli.output import instant, print_fields, print_json
from relay.cli.reach import Reach
from relay.clock import SystemClock
from relay.http.admin.schemas import Choice, DeadLetterAnswer, DeadLetterPage
from relay.settings.sections import INSERT_ID_MEMORY_S

WARNING: Final = (
    "some were first tried more than 7 days ago; Amplitude has forgotten such events and counts "
    "again those that had reached it after all"
)


async def read_page(api: AdminApi, path: str, query: Mapping[str, str]) -> DeadLetterPage:
    """Read a page of dead letters from a daemon."""
    return await api.get(path, DeadLetterPage, query)


def row(letter: DeadLetterAnswer) -> Mapping[str, str]:
    """Return the columns of a list."""
    return {
        "id": str(letter.id),
        "app": letter.app,
        "event": letter.event_type,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": str(letter.attempts),
        "died": instant(letter.died_at),
    }


def show(letter: DeadLetterAnswer) -> None:
    """Show a dead letter to a person."""
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


async def warn_of(desk: Desk[DeadLetterAnswer], choice: Choice) -> str | None:
    """Warn of events that Amplitude may count twice: tried before it forgot their ids."""
    oldest_known_at = SystemClock().now_ms() - INSERT_ID_MEMORY_S * 1000
    async for letter in _chosen(desk, choice):
        if letter.first_tried_at is not None and letter.first_tried_at < oldest_known_at:
            return WARNING
    return None


async def _chosen(desk: Desk[DeadLetterAnswer], choice: Choice) -> AsyncIterator[DeadLetterAnswer]:
    if choice.ids is None:
        async for letter in walk(desk, choice.app, choice.reason):
            yield letter
        return
    for number in choice.ids:
        if found := await find(desk, number):
            yield found


commands = LetterCommands(
    Letters(
        reach=Reach("/dead-letters", read_page, LocalDeadLetters),
        words=Words("dead letter", "dead letters", "put back in line", "not found"),
        row=row,
        show=show,
        warn_of=warn_of,
    )
).typer()
