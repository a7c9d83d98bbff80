"""`list`, `show`, `retry`, `discard`, `export`: for dead letters and for quarantined bodies."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Generic, TypeAlias, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from relay.cli.client import Client
from relay.cli.data_access import OUTBOX, open_client
from relay.cli.exit_codes import CommandFailed, run
from relay.cli.json_output import JsonWriter, open_json, print_json_line
from relay.cli.options import (
    AppOption,
    AsJson,
    EnvFile,
    Limit,
    Yes,
    ask_first,
    known_app_if_any,
    named_or_only_app,
    read_settings,
)
from relay.cli.output import clean, new_table, output
from relay.http.admin.context import OutboxContext
from relay.http.admin.operations import Operation
from relay.http.admin.schemas import (
    MAX_ID,
    Affected,
    Choice,
    DeadLetterAnswer,
    Listing,
    Page,
    QuarantinedAnswer,
)
from relay.settings import Settings

PAGE_ITEMS: Final = 100  # bodies have up to 4 MiB, and a page is held in memory
SHOWN_ITEMS: Final = 50  # rows of a table without --limit

_ID: Final = typer.Argument(metavar="ID", min=1, max=MAX_ID, help="As the list shows it.")

Number = Annotated[int, _ID]
Numbers = Annotated[list[int] | None, _ID]
Reason = Annotated[str | None, typer.Option("--reason", help="Only those with this reason.")]
All = Annotated[bool, typer.Option("--all", help="All of the app.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would change.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file, else stdout.")
]

Wanted: TypeAlias = tuple[str | None, str | None]  # the app and the reason, `None` for any
Item = TypeVar("Item", bound=DeadLetterAnswer | QuarantinedAnswer)
ListItems: TypeAlias = "Operation[OutboxContext, Listing, Page[Item]]"


@dataclass(frozen=True, slots=True)
class Kind(Generic[Item]):
    """One kind of items.

    Attributes:
        one: Its name.
        many: Its plural.
        retried: What a retry makes of them, as a past participle.
        unretried: What is true of those that a retry does not change.
        list: Lists them.
        retry: Retries the chosen ones; returns how many changed, or would.
        discard: Discards them.
        row: Columns of a table by heading.
        show: Prints one, complete.
    """

    one: str
    many: str
    retried: str
    unretried: str
    list: "ListItems[Item]"
    retry: Callable[[Settings, Choice], Awaitable[int]]
    discard: Operation[OutboxContext, Choice, Affected]
    row: Callable[[Item], Mapping[str, str]]
    show: Callable[[Item], None]

    def count(self, number: int) -> str:
        """Return a number of items in words."""
        return f"{number:,} {self.one if number == 1 else self.many}"


async def walk(
    client: Client[OutboxContext],
    listing: "ListItems[Item]",
    app: str | None,
    reason: str | None,
) -> AsyncIterator[Item]:
    """Yield all items, or those of an app and with a reason, oldest first."""
    after: int | None = 0
    while after is not None:
        asked = Listing(app=app, reason=reason, limit=PAGE_ITEMS, after=after)
        page = await client.call(listing, asked)
        for item in page.items:
            yield item
        after = page.next


async def find(
    client: Client[OutboxContext],
    listing: "ListItems[Item]",
    number: int,
) -> Item | None:
    """Return the item with an id, `None` if there is none."""
    page = await client.call(listing, Listing(limit=1, after=number - 1))
    return next((item for item in page.items if item.id == number), None)


class ItemCommands(Generic[Item]):
    """The commands over one kind of items."""

    def __init__(self, kind: Kind[Item]) -> None:
        self._kind = kind

    def typer(self) -> typer.Typer:
        """Return the group of commands, without its name."""
        many = self._kind.many
        commands = typer.Typer(
            add_completion=False,
            no_args_is_help=True,
            help=f"List, show, retry, discard and export {many}.",
        )
        commands.command("list", help=f"List {many}, oldest first.")(self.list)
        commands.command("show", help=f"Show a {self._kind.one}, whole.")(self.show)
        commands.command("retry", help=f"Try {many} again.")(self.retry)
        commands.command("discard", help=f"Throw {many} away for good.")(self.discard)
        commands.command("export", help=f"Write {many} as NDJSON.")(self.export)
        return commands

    def list(
        self,
        *,
        app: AppOption = None,
        reason: Reason = None,
        limit: Limit = None,
        as_json: AsJson = False,
        env_file: EnvFile = None,
    ) -> None:
        """Show items of all apps, or of one; as JSON all of them, in one array."""
        settings = read_settings(env_file)
        named = known_app_if_any(settings, app)
        if not as_json:
            run(partial(self._show_table, settings, (named, reason), limit or SHOWN_ITEMS))
            return
        with open_json(None, is_array=True) as writer:
            run(partial(self._write, settings, (named, reason), writer, limit))

    def show(self, number: Number, *, as_json: AsJson = False, env_file: EnvFile = None) -> None:
        """Show one item, complete."""
        item = run(partial(self._find, read_settings(env_file), number))
        (print_json_line if as_json else self._kind.show)(item)

    def retry(
        self,
        numbers: Numbers = None,
        *,
        app: AppOption = None,
        reason: Reason = None,
        everything: All = False,
        dry_run: DryRun = False,
        env_file: EnvFile = None,
    ) -> None:
        """Try items again."""
        settings = read_settings(env_file)
        choice = _choose(settings, numbers, app, reason, is_all=everything)
        choice = choice.model_copy(update={"dry_run": dry_run})
        affected = run(partial(self._kind.retry, settings, choice))
        self._report(choice, affected, self._kind.retried, self._kind.unretried)

    def discard(  # noqa: PLR0913  a parameter is an option
        self,
        numbers: Numbers = None,
        *,
        app: AppOption = None,
        reason: Reason = None,
        everything: All = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        env_file: EnvFile = None,
    ) -> None:
        """Throw items away; asks first on a terminal."""
        settings = read_settings(env_file)
        choice = _choose(settings, numbers, app, reason, is_all=everything)
        counting = choice.model_copy(update={"dry_run": True})
        if dry_run:
            choice = counting
        elif not yes and sys.stdin.isatty():
            number = run(partial(self._discard, settings, counting))
            if number:
                ask_first(f"Throw {self._kind.count(number)} away for good?", yes=yes)
        affected = run(partial(self._discard, settings, choice))
        self._report(choice, affected, "discarded", "not found")

    def export(
        self,
        *,
        app: AppOption = None,
        reason: Reason = None,
        file: Output = None,
        env_file: EnvFile = None,
    ) -> None:
        """Write items as NDJSON."""
        settings = read_settings(env_file)
        named = known_app_if_any(settings, app)
        with open_json(file) as writer:
            number = run(partial(self._write, settings, (named, reason), writer))
        if file is not None:
            output().print(f"{self._kind.count(number)} written to {file}")

    async def _show_table(self, settings: Settings, wanted: Wanted, limit: int) -> None:
        table: Table | None = None
        is_cut = False
        async with open_client(settings, OUTBOX) as client:
            async for item in walk(client, self._kind.list, *wanted):
                row = self._kind.row(item)
                table = table or new_table(row)
                if is_cut := table.row_count == limit:
                    break
                table.add_row(*(Text(clean(text)) for text in row.values()))
        output().print(f"no {self._kind.many}" if table is None else table)
        if is_cut:
            typer.echo(f"there are more; --limit {limit} ends the list here", err=True)

    async def _write(
        self, settings: Settings, wanted: Wanted, writer: JsonWriter, limit: int | None = None
    ) -> int:
        """Write items as JSON and return how many."""
        number = 0
        async with open_client(settings, OUTBOX) as client:
            async for item in walk(client, self._kind.list, *wanted):
                if number == limit:
                    break
                writer.add(item)
                number += 1
        return number

    async def _find(self, settings: Settings, number: int) -> Item:
        async with open_client(settings, OUTBOX) as client:
            item = await find(client, self._kind.list, number)
        if item is None:
            raise CommandFailed(f"there is no {self._kind.one} {number}")
        return item

    async def _discard(self, settings: Settings, choice: Choice) -> int:
        async with open_client(settings, OUTBOX) as client:
            return (await client.call(self._kind.discard, choice)).affected

    def _report(self, choice: Choice, affected: int, done: str, missing: str) -> None:
        """Print what was done to the chosen items.

        Args:
            choice: What was asked for.
            affected: How many items it changed, or would.
            done: What was done, as a past participle.
            missing: What is true of the other items, if items were named.

        Raises:
            CommandFailed: If it was not done to all that were named.
        """
        verb = "would be" if choice.dry_run else "was" if affected == 1 else "were"
        output().print(f"{self._kind.count(affected)} {verb} {done}")
        if choice.ids is not None and affected < len(choice.ids):
            number = len(choice.ids) - affected
            raise CommandFailed(f"{number} of {len(choice.ids)} ids: {missing}")


def _choose(
    settings: Settings,
    numbers: Sequence[int] | None,
    app: str | None,
    reason: str | None,
    *,
    is_all: bool,
) -> Choice:
    """Return the chosen items.

    Raises:
        CommandFailed: If there is no such app.
        typer.BadParameter: If nothing was chosen, or in two ways.
    """
    if numbers:
        if app is not None or reason is not None or is_all:
            raise typer.BadParameter("IDs exclude --app, --reason and --all")
        return Choice(ids=sorted(set(numbers)))
    if is_all and reason is not None:
        raise typer.BadParameter("--all and --reason exclude each other")
    if app is None and reason is None and not is_all:
        raise typer.BadParameter("say which: IDs, --app, --reason or --all")
    return Choice(app=named_or_only_app(settings, app), reason=reason)
