"""`relay pause` and `relay resume`: an app's delivery, now and after a restart."""

from typing import Annotated

import typer

from relay.cli.data_access import DAEMON, call
from relay.cli.options import Configured, named_or_only_app
from relay.cli.output import output
from relay.http.admin.operations import NoInput
from relay.http.admin.status import PAUSE, RESUME

AppArgument = Annotated[
    str | None, typer.Argument(metavar="APP", help="May be left out with a single app.")
]


def pause(*, app: AppArgument = None, settings: Configured) -> None:
    """Stop an app's delivery; its events are still accepted and wait."""
    name = named_or_only_app(settings, app)
    changed = call(settings, DAEMON, PAUSE, NoInput(), app=name).affected
    output().print(f"the delivery of {name} {'is paused' if changed else 'was paused already'}")


def resume(*, app: AppArgument = None, settings: Configured) -> None:
    """Go on with an app's delivery; a halted one is tried at once."""
    name = named_or_only_app(settings, app)
    changed = call(settings, DAEMON, RESUME, NoInput(), app=name).affected
    output().print(f"the delivery of {name} {'goes on' if changed else 'was not paused'}")
