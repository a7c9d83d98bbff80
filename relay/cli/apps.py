"""Which app a command is about."""

from typing import Annotated

import typer

from relay.cli.failure import CommandFailed
from relay.settings import Settings

AppOption = Annotated[
    str | None, typer.Option("--app", metavar="APP", help="May be left out with a single app.")
]


def known_app(settings: Settings, name: str) -> str:
    """Return the configured app of that name.

    Raises:
        CommandFailed: If there is none; it says which there are.
    """
    app = name.lower()
    if app not in settings.apps:
        raise CommandFailed(f"no app {name!r} is configured; there are: {_names(settings)}")
    return app


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
