"""Options that several commands take."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from relay.settings import Settings, load_settings


def _remember(context: typer.Context, value: Path | None) -> Path | None:
    """Return the file named after the command, else the one named before it."""
    root = context.find_root()
    if value is not None:
        root.obj = value
    return root.obj if isinstance(root.obj, Path) else None


EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        callback=_remember,
        help="Settings, one NAME=value on a line; the environment wins over it.",
    ),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def ask_first(question: str, *, yes: bool) -> None:
    """Ask before something is lost, where somebody can answer and has not done so already.

    Raises:
        typer.Abort: If the answer is no.
    """
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


def read_settings(env_file: Path | None) -> Settings:
    """Return the configuration.

    Raises:
        ConfigError: If anything is wrong with it.
    """
    return load_settings(env_file=env_file)
