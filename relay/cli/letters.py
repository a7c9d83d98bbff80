"""What `relay dead-letters` and `relay quarantine` do alike: list, show, retry, discard, export."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic

import typer
from rich.table import Table
from rich.text import Text

from relay.cli.desk import Desk, Item, find, walk
from relay.cli.failure import CommandFailed
from relay.cli.output import clean, new_table, output
from relay.cli.reach import Reach, open_desk
from relay.cli.sink import Sink
from relay.http.admin.schemas import Choice
from relay.settings import Settings

SHOWN_ITEMS: Final = 50
"""Rows of a table, unless more are asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which items a list or an export is about; None leaves a condition out."""

    app: str | None = None
    reason: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """What people call the items, and what was done to them.

    Attributes:
        one: A single item.
        many: Several.
        retried: What a retry makes of them, in the past participle.
        unretried: What those are that a retry does not change.
    """

    one: str
    many: str
    retried: str
    unretried: str

    def count(self, number: int) -> str:
        """Return how many, in words."""
        return f"{number:,} {self.one if number == 1 else self.many}"


@dataclass(frozen=True, slots=True)
class Letters(Generic[Item]):
    """The commands of one kind of items.

    Attributes:
        reach: How the items are reached.
        words: How they are called.
        row: The columns of a list by heading.
        show: Shows one item to a person, whole.
        warn_of: Says what a person should know before a choice is retried, None if nothing.
    """

    reach: Reach[Item]
    words: Words
    row: Callable[[Item], Mapping[str, str]]
    show: Callable[[Item], None]
    warn_of: Callable[[Desk[Item], Choice], Awaitable[str | None]]

    async def list_table(self, settings: Settings, wanted: Wanted) -> None:
        """Show a table of items."""
        limit = wanted.limit or SHOWN_ITEMS
        table: Table | None = None
        is_cut = False
        async with open_desk(settings, self.reach) as desk:
            async for item in walk(desk, wanted.app, wanted.reason):
                table = table or new_table(self.row(item))
                if is_cut := table.row_count == limit:
                    break
                table.add_row(*(Text(clean(text)) for text in self.row(item).values()))
        if table is None:
            output().print(f"no {self.words.many}")
            return
        output().print(table)
        if is_cut:
            typer.echo(f"there are more; --limit {limit} ends the list here", err=True)

    async def write(self, settings: Settings, wanted: Wanted, sink: Sink) -> int:
        """Write items as JSON and return how many."""
        number = 0
        async with open_desk(settings, self.reach) as desk:
            async for item in walk(desk, wanted.app, wanted.reason):
                if number == wanted.limit:
                    break
                sink.add(item.model_dump_json().encode())
                number += 1
        return number

    async def find(self, settings: Settings, number: int) -> Item:
        """Return one item.

        Raises:
            CommandFailed: If there is none with that id.
        """
        async with open_desk(settings, self.reach) as desk:
            item = await find(desk, number)
        if item is None:
            raise CommandFailed(f"there is no {self.words.one} {number}")
        return item

    async def retry(self, settings: Settings, choice: Choice) -> int:
        """Try the chosen items again; return how many changed, or would."""
        async with open_desk(settings, self.reach) as desk:
            if warning := await self.warn_of(desk, choice):
                typer.echo(f"warning: {warning}", err=True)
            return await desk.retry(choice)

    async def discard(self, settings: Settings, choice: Choice) -> int:
        """Throw the chosen items away; return how many, or would."""
        async with open_desk(settings, self.reach) as desk:
            return await desk.discard(choice)

    def report(self, choice: Choice, affected: int, done: str, missing: str) -> None:
        """Say what was done to the chosen items.

        Args:
            choice: What was asked for.
            affected: How many items it changed, or would.
            done: What was done, in the past participle.
            missing: What the other items are, if items were named.

        Raises:
            CommandFailed: If it was not done to all that were named.
        """
        verb = "would be" if choice.dry_run else "was" if affected == 1 else "were"
        output().print(f"{self.words.count(affected)} {verb} {done}")
        if choice.ids is not None and affected < len(choice.ids):
            number = len(choice.ids) - affected
            raise CommandFailed(f"{number} of {len(choice.ids)} ids: {missing}")
