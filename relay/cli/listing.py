"""The `list` commands: a table for people, or all items as JSON."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

import typer
from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from relay.cli.client import Client
from relay.cli.data_access import Data, open_client
from relay.cli.exit_codes import run
from relay.cli.json_output import JsonWriter, open_json
from relay.cli.output import clean, new_table, output
from relay.http.admin.operations import Operation
from relay.http.admin.schemas import Page
from relay.settings import Settings

SHOWN_ROWS: Final = 50

Context = TypeVar("Context")
Asked = TypeVar("Asked", bound=BaseModel)
Item = TypeVar("Item", bound=BaseModel)


async def walk(
    client: Client[Context], operation: Operation[Context, Asked, Page[Item]], asked: Asked
) -> AsyncIterator[Item]:
    """Yield the items of the page asked for and of all that follow."""
    while True:
        page = await client.call(operation, asked)
        for item in page.items:
            yield item
        if page.next is None:
            return
        asked = asked.model_copy(update={"after": page.next})


@dataclass(frozen=True, slots=True)
class Query(Generic[Context, Item]):
    """Which items a list holds.

    Attributes:
        data: Where they are.
        operation: Lists them, page by page.
        asked: The first page.
    """

    data: Data[Context]
    operation: Operation[Context, Any, Page[Item]]  # each operation asks for pages in its own way
    asked: BaseModel

    async def write(self, settings: Settings, writer: JsonWriter, limit: int | None = None) -> int:
        """Write items as JSON, at most `limit`; return how many."""
        number = 0
        async with open_client(settings, self.data) as client:
            async for item in walk(client, self.operation, self.asked):
                if number == limit:
                    break
                writer.add(item)
                number += 1
        return number


@dataclass(frozen=True, slots=True)
class Layout(Generic[Item]):
    """How a list is shown to people.

    Attributes:
        cells: The cells of an item by heading; texts may come from outside.
        empty: Printed in place of an empty table.
        numbers: Headings of numbers.
        whole: Headings of cells that are never wrapped.
        rows: At most this many, unless `--limit` says otherwise; `None` for all.
        note: Returns a line to print below the table about an item, or nothing.
    """

    cells: Callable[[Item], Mapping[str, str | Text]]
    empty: str
    numbers: Collection[str] = ()
    whole: Collection[str] = ()
    rows: int | None = SHOWN_ROWS
    note: Callable[[Item], str | None] = lambda _: None


def print_list(
    settings: Settings,
    query: Query[Context, Item],
    layout: Layout[Item],
    limit: int | None = None,
    *,
    as_json: bool,
) -> None:
    """Print items as a table, or as one JSON array.

    Args:
        settings: The configuration.
        query: The items.
        layout: How people see them.
        limit: At most this many; `None` for all, and for `layout.rows` in a table.
        as_json: Whether to print JSON.
    """
    if as_json:
        with open_json(None, is_array=True) as writer:
            run(partial(query.write, settings, writer, limit))
    else:
        run(partial(_print_table, settings, query, layout, limit or layout.rows))


async def _print_table(
    settings: Settings, query: Query[Context, Item], layout: Layout[Item], limit: int | None
) -> None:
    table: Table | None = None
    notes: list[str] = []
    is_cut = False
    async with open_client(settings, query.data) as client:
        async for item in walk(client, query.operation, query.asked):
            cells = layout.cells(item)
            table = table or new_table(cells, numbers=layout.numbers, whole=layout.whole)
            if is_cut := table.row_count == limit:  # this item is one too many
                break
            table.add_row(*(_text(cell) for cell in cells.values()))
            if note := layout.note(item):
                notes.append(note)
    output().print(layout.empty if table is None else table)
    for note in notes:  # below the table, as a column would wrap long texts into shreds
        output().print(Text(clean(note)), soft_wrap=True)
    if is_cut:
        typer.echo(f"there are more; --limit {limit} ends the list here", err=True)


def _text(cell: str | Text) -> Text:
    return Text(clean(cell)) if isinstance(cell, str) else cell
