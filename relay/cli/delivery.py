"""`relay pause` and `relay resume`: an app's delivery, now and after a restart."""

from functools import partial
from typing import Annotated

import typer

from relay.cli.client import open_daemon_client
from relay.cli.exit_codes import run
from relay.cli.options import EnvFile, named_or_only_app, read_settings
from relay.cli.output import output
from relay.http.admin.context import AdminContext
from relay.http.admin.operations import NoInput, Operation
from relay.http.admin.schemas import Affected
from relay.http.admin.status import PAUSE, RESUME
from relay.settings import Settings

AppArgument = Annotated[
    str | None, typer.Argument(metavar="APP", help="May be left out with a single app.")
]


def pause(*, app: AppArgument = None, env_file: EnvFile = None) -> None:
    """Stop an app's delivery; its events are still accepted and wait."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    changed = run(partial(_act, settings, PAUSE, name))
    output().print(f"the delivery of {name} {'is paused' if changed else 'was paused already'}")


def resume(*, app: AppArgument = None, env_file: EnvFile = None) -> None:
    """Go on with an app's delivery; a halted one is tried at once."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    changed = run(partial(_act, settings, RESUME, name))
    output().print(f"the delivery of {name} {'goes on' if changed else 'was not paused'}")


async def _act(
    settings: Settings, operation: Operation[AdminContext, NoInput, Affected], app: str
) -> bool:
    async with open_daemon_client(settings) as client:
        return (await client.call(operation, NoInput(), app=app)).affected > 0
