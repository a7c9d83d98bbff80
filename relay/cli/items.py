"""`list`, `show`, `retry`, `discard`, `export`: for dead letters and for quarantined bodies."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Generic, TypeVar

import typer
from rich.text import Text

from relay.cli.client import Client
from relay.cli.data_access import OUTBOX, call
from relay.cli.exit_codes import run
from relay.cli.json_output import open_json, print_json_line
from relay.cli.listing import Layout, Query, print_list
from relay.cli.options import (
    AppOption,
    AsJson,
    Configured,
    Limit,
    Yes,
    ask_first,
    known_app_if_any,
    named_or_only_app,
)
from relay.cli.output import output
from relay.errors import CommandFailed
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

PAGE_ITEMS: Final = 100
"""Bodies have up to 4 MiB, and a page is held in memory."""

_ID: Final = typer.Argument(metavar="ID", min=1, max=MAX_ID, help="As the list shows it.")

Number = Annotated[int, _ID]
Numbers = Annotated[list[int] | None, _ID]
Reason = Annotated[str | None, typer.Option("--reason", help="Only those with this reason.")]
All = Annotated[bool, typer.Option("--all", help="All of the app.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would change.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file, else stdout.")
]

Item = TypeVar("Item", bound=DeadLetterAnswer | QuarantinedAnswer)


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
        cells: The cells of a table by heading.
        show: Prints one, complete.
    """

    one: str
    many: str
    retried: str
    unretried: str
    list: Operation[OutboxContext, Listing, Page[Item]]
    retry: Callable[[Settings, Choice], int]
    discard: Operation[OutboxContext, Choice, Affected]
    cells: Callable[[Item], Mapping[str, str | Text]]
    show: Callable[[Item], None]

    def query(self, app: str | None, reason: str | None) -> Query[OutboxContext, Item]:
        """Return which items are meant; `None` leaves a condition out."""
        return Query(OUTBOX, self.list, Listing(app=app, reason=reason, limit=PAGE_ITEMS))

    async def find(self, client: Client[OutboxContext], number: int) -> Item | None:
        """Return the item with an id, `None` if there is none."""
        # Ids are the cursor: the first item after the id below is the item itself, if it exists.
        page = await client.call(self.list, Listing(limit=1, after=number - 1))
        return next((item for item in page.items if item.id == number), None)

    def count(self, number: int) -> str:
        """Return a number of items in words."""
        return f"{number:,} {self.one if number == 1 else self.many}"


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
        settings: Configured,
    ) -> None:
        """List items of all apps, or of one; as JSON all of them, in one array."""
        query = self._kind.query(known_app_if_any(settings, app), reason)
        layout = Layout(self._kind.cells, empty=f"no {self._kind.many}")
        print_list(settings, query, layout, limit, as_json=as_json)

    def show(self, number: Number, *, as_json: AsJson = False, settings: Configured) -> None:
        """Show one item, complete."""
        asked = Listing(limit=1, after=number - 1)
        page = call(settings, OUTBOX, self._kind.list, asked)
        if not page.items or page.items[0].id != number:
            raise CommandFailed(f"there is no {self._kind.one} {number}")
        (print_json_line if as_json else self._kind.show)(page.items[0])

    def retry(
        self,
        numbers: Numbers = None,
        *,
        app: AppOption = None,
        reason: Reason = None,
        everything: All = False,
        dry_run: DryRun = False,
        settings: Configured,
    ) -> None:
        """Try items again."""
        choice = _choose(settings, numbers, app, reason, is_all=everything)
        choice = choice.model_copy(update={"dry_run": dry_run})
        affected = self._kind.retry(settings, choice)
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
        settings: Configured,
    ) -> None:
        """Throw items away; asks first on a terminal."""
        choice = _choose(settings, numbers, app, reason, is_all=everything)
        counting = choice.model_copy(update={"dry_run": True})
        if dry_run:
            choice = counting
        elif not yes and sys.stdin.isatty():
            # Counted first, so that the question says how much would be lost.
            number = call(settings, OUTBOX, self._kind.discard, counting).affected
            if number:
                ask_first(f"Throw {self._kind.count(number)} away for good?", yes=yes)
        affected = call(settings, OUTBOX, self._kind.discard, choice).affected
        self._report(choice, affected, "discarded", "not found")

    def export(
        self,
        *,
        app: AppOption = None,
        reason: Reason = None,
        file: Output = None,
        settings: Configured,
    ) -> None:
        """Write items as NDJSON."""
        query = self._kind.query(known_app_if_any(settings, app), reason)
        with open_json(file) as writer:
            number = run(partial(query.write, settings, writer))
        if file is not None:
            output().print(f"{self._kind.count(number)} written to {file}")

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
