"""`relay forget`: a user is to be known no more, anywhere."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

import typer

from relay.cli.admin_api import open_admin_api, path_of
from relay.cli.apps import known_app
from relay.cli.failure import run
from relay.cli.options import EnvFile, Yes, ask_first, read_settings
from relay.cli.output import output
from relay.cli.reach import Place, open_own_outbox, take_place
from relay.cli.segment_reach import open_own_segments
from relay.clock import SystemClock
from relay.directory.erasure import UserErasure
from relay.settings import Settings


def forget(
    app: Annotated[str, typer.Argument(metavar="APP", help="The app's name.")],
    external_id: Annotated[str, typer.Argument(metavar="EXTERNAL_ID", help="The user.")],
    *,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Forget a user for good: segments, directory, history, pending events, dead letters."""
    settings = read_settings(env_file)
    name = known_app(settings, app)
    ask_first(f"Forget this user of {name} everywhere, for good? It cannot be undone.", yes=yes)
    run(partial(_forget, settings, name, external_id))
    output().print(
        f"the user is forgotten in {name}, and stays so; what Amplitude and OneSignal hold is to "
        "be deleted there"
    )


async def _forget(settings: Settings, app: str, external_id: str) -> None:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(open_admin_api(settings))
        if await take_place(settings, api, stack, None) is Place.DAEMON:
            await api.fetch("DELETE", path_of("users", app, external_id))
            return
        segments = await stack.enter_async_context(open_own_segments(settings, settings.data_dir))
        outbox = await stack.enter_async_context(open_own_outbox(settings))
        await UserErasure(outbox, segments, SystemClock()).forget(app, external_id)
