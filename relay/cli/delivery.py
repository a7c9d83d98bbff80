"""`relay pause` and `relay resume`: an app's delivery, now and after a restart."""

from functools import partial
from typing import Annotated

import typer

from relay.cli.admin_api import open_admin_api
from relay.cli.apps import named_or_only_app
from relay.cli.failure import run
from relay.cli.options import EnvFile, read_settings
from relay.cli.output import output
from relay.http.admin.schemas import Affected
from relay.settings import Settings

AppArgument = Annotated[
    str | None, typer.Argument(metavar="APP", help="May be left out with a single app.")
]


def pause(*, app: AppArgument = None, env_file: EnvFile = None) -> None:
    """Stop an app's delivery; its events are still accepted and wait."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    changed = run(partial(_act, settings, f"/apps/{name}/pause"))
    output().print(f"the delivery of {name} {'is paused' if changed else 'was paused already'}")


def resume(*, app: AppArgument = None, env_file: EnvFile = None) -> None:
    """Go on with an app's delivery; a halted one is tried at once."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    changed = run(partial(_act, settings, f"/apps/{name}/resume"))
    output().print(f"the delivery of {name} {'goes on' if changed else 'was not paused'}")


async def _act(settings: Settings, path: str) -> bool:
    async with open_admin_api(settings) as api:
        return (await api.post(path, Affected)).affected > 0
