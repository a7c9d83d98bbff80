"""Options and arguments that several commands take."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from relay.errors import CommandFailed
from relay.settings import Settings, load_settings


def _remember(context: typer.Context, value: Path | None) -> Path | None:
    """Return the file named after the command, else the one named before it."""
    root = context.find_root()
    if value is not None:
        root.obj = value
    return root.obj if isinstance(root.obj, Path) else None


def _load(context: typer.Context, value: Path | None) -> Settings:
    return load_settings(env_file=_remember(context, value))


_HELP: Final = "Settings, one NAME=value on a line; the environment wins over it."

EnvFile = Annotated[
    Path | None, typer.Option("--env-file", metavar="FILE", callback=_remember, help=_HELP)
]
Configured = Annotated[
    Settings,
    typer.Option(
        "--env-file",
        metavar="FILE",
        parser=Path,
        default_factory=lambda: None,
        show_default=False,
        callback=_load,
        help=_HELP,
    ),
]
"""The configuration. A mistake in it raises `ConfigError` before the command begins."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsLines = Annotated[bool, typer.Option("--json", help="Print NDJSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many.")]
AppOption = Annotated[
    str | None, typer.Option("--app", metavar="APP", help="May be left out with a single app.")
]
CohortId = Annotated[
    str, typer.Argument(metavar="COHORT_ID", help="Amplitude's id, as the list shows it.")
]


def ask_first(question: str, *, yes: bool) -> None:
    """Ask before something is lost, on a terminal and without `--yes`.

    Raises:
        typer.Abort: If the answer is no.
    """
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


def known_app(settings: Settings, name: str) -> str:
    """Return the configured app of that name.

    Raises:
        CommandFailed: If there is none; the text names those there are.
    """
    app = name.lower()
    if app not in settings.apps:
        raise CommandFailed(f"no app {name!r} is configured; there are: {_names(settings)}")
    return app


def known_app_if_any(settings: Settings, name: str | None) -> str | None:
    """Return the configured app of that name; `None`, for all apps, where none was named.

    Raises:
        CommandFailed: If there is none; the text names those there are.
    """
    return None if name is None else known_app(settings, name)


def named_or_only_app(settings: Settings, name: str | None) -> str:
    """Return the named app, or the only one where none was named.

    Raises:
        CommandFailed: If there is none of that name.
        typer.BadParameter: If none was named and there are several.
    """
    if name is not None:
        return known_app(settings, name)
    if len(settings.apps) > 1:
        raise typer.BadParameter(f"say which app: {_names(settings)}")
    return next(iter(settings.apps))


def _names(settings: Settings) -> str:
    return ", ".join(sorted(settings.apps))
