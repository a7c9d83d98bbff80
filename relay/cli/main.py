"""The command `relay`: finds the command that was typed and ends with the contract's codes.

A command's module is imported only when the command is typed, or when help lists them all.
"""

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Annotated, Final

import typer
from typer._click import Command, Context  # typer holds its own Click and exports neither
from typer.core import TyperGroup
from typer.main import get_command

from relay import __version__
from relay.cli.exit_codes import explain
from relay.cli.options import EnvFile
from relay.errors import RelayError

COMMANDS: Final[Mapping[str, str]] = {
    "serve": "relay.cli.serve:serve",
    "check": "relay.cli.check.command:check",
    "status": "relay.cli.status:status",
    "dead-letters": "relay.cli.dead_letters:commands",
    "quarantine": "relay.cli.quarantine:commands",
    "segments": "relay.cli.segments:commands",
    "runs": "relay.cli.runs:commands",
    "directory": "relay.cli.directory:commands",
    "forget": "relay.cli.users:forget",
    "pause": "relay.cli.delivery:pause",
    "resume": "relay.cli.delivery:resume",
    "backup": "relay.cli.backup:backup",
    "template": "relay.cli.template:template",
    "demo": "relay.demo.command:demo",
    "sandbox": "relay.sandbox.command:sandbox",
}
"""Where each command is: a function, or a `Typer` with commands of its own."""

OWNER_ONLY: Final = 0o077
"""Nobody else reads what a command writes: it holds users' ids and messages."""


class LazyCommands(TyperGroup):
    """The commands of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002  Click's signature
        """Return the names in the order of help."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        """Return a command, None if there is none of that name."""
        place = COMMANDS.get(cmd_name)
        return None if place is None else _load(cmd_name, place)


def _load(name: str, place: str) -> Command:
    if name == "serve":  # before its imports: SIGHUP asks for a reload and must end nothing
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(found)
        found = single
    command = get_command(found)
    command.name = name
    return command


def _show_version(*, is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"relay {__version__}")
        raise typer.Exit


relay = typer.Typer(
    cls=LazyCommands,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@relay.callback()
def _begin(
    *,
    env_file: EnvFile = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and end."
        ),
    ] = False,
) -> None:
    """A durable bridge between OneSignal and Amplitude."""


def main() -> None:
    """Run the command that was typed and end the process."""
    os.umask(OWNER_ONLY)
    try:
        get_command(relay).main(prog_name="relay")
    except (RelayError, OSError) as error:
        sys.exit(explain(error))
