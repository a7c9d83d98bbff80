"""The commands `list`, `show`, `retry`, `discard` and `export` over one kind of items."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Generic

import typer

from relay.cli.apps import AppOption, known_app, named_or_only_app
from relay.cli.desk import Item
from relay.cli.failure import run
from relay.cli.letters import Letters, Wanted
from relay.cli.options import AsJson, EnvFile, Yes, ask_first, read_settings
from relay.cli.output import output
from relay.cli.sink import open_sink
from relay.http.admin.schemas import MAX_ID, Choice
from relay.settings import Settings

Number = Annotated[
    int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="As the list shows it.")
]
Numbers = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID", min=1, max=MAX_ID, help="As the list shows them."),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Only those with this reason.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]
All = Annotated[bool, typer.Option("--all", help="All of the app.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would change.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file, else stdout.")
]


class LetterCommands(Generic[Item]):
    """The commands over one kind of items."""

    def __init__(self, letters: Letters[Item]) -> None:
        self._letters = letters
        self._words = letters.words

    def typer(self) -> typer.Typer:
        """Return them, to be hung under their noun."""
        many = self._words.many
        commands = typer.Typer(
            add_completion=False,
            no_args_is_help=True,
            help=f"List, show, retry, discard and export {many}.",
        )
        commands.command("list", help=f"List {many}, oldest first.")(self.list)
        commands.command("show", help=f"Show a {self._words.one}, whole.")(self.show)
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
        wanted = Wanted(_app(settings, app), reason, limit)
        if not as_json:
            run(partial(self._letters.list_table, settings, wanted))
            return
        with open_sink(None, is_array=True) as sink:
            run(partial(self._letters.write, settings, wanted, sink))

    def show(self, number: Number, *, as_json: AsJson = False, env_file: EnvFile = None) -> None:
        """Show one item, whole."""
        settings = read_settings(env_file)
        item = run(partial(self._letters.find, settings, number))
        if as_json:
            with open_sink(None) as sink:
                sink.add(item.model_dump_json().encode())
        else:
            self._letters.show(item)

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
        affected = run(partial(self._letters.retry, settings, choice))
        self._letters.report(choice, affected, self._words.retried, self._words.unretried)

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
        """Throw items away; asked about first, where somebody can answer."""
        settings = read_settings(env_file)
        choice = _choose(settings, numbers, app, reason, is_all=everything)
        counting = choice.model_copy(update={"dry_run": True})
        if dry_run:
            choice = counting
        elif not yes and sys.stdin.isatty():
            number = run(partial(self._letters.discard, settings, counting))
            if number:
                ask_first(f"Throw {self._words.count(number)} away for good?", yes=yes)
        affected = run(partial(self._letters.discard, settings, choice))
        self._letters.report(choice, affected, "discarded", "not found")

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
        wanted = Wanted(_app(settings, app), reason)
        with open_sink(file) as sink:
            number = run(partial(self._letters.write, settings, wanted, sink))
        if file is not None:
            output().print(f"{self._words.count(number)} written to {file}")


def _app(settings: Settings, name: str | None) -> str | None:
    return None if name is None else known_app(settings, name)


def _choose(
    settings: Settings,
    numbers: Sequence[int] | None,
    app: str | None,
    reason: str | None,
    *,
    is_all: bool,
) -> Choice:
    """Return what a person chose.

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
