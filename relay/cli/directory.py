"""`relay directory`: whom OneSignal knows, as far as relay does."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from relay.cli.admin_api import open_admin_api, path_of
from relay.cli.apps import AppOption, named_or_only_app
from relay.cli.directory_views import fetch_directory, show_directory
from relay.cli.failure import CommandFailed, run
from relay.cli.import_file import import_file
from relay.cli.options import AsJson, EnvFile, Yes, ask_first, read_settings
from relay.cli.output import output
from relay.cli.sink import open_sink
from relay.cli.user_views import fetch_user, show_user
from relay.errors import FileRejected
from relay.http.admin.schemas import Affected
from relay.http.admin.segment_schemas import DirectoryAnswer, UserAnswer
from relay.settings import Settings

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show, import and refresh what relay knows of OneSignal's users.",
)

Export = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        readable=True,
        help="OneSignal's export of subscriptions: .csv or .csv.gz.",
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="The file is the whole truth: who is not in it is gone.")
]
ExternalId = Annotated[str | None, typer.Argument(metavar="EXTERNAL_ID", help="One user.")]


@commands.command("import")
def import_export(
    file: Export,
    *,
    app: AppOption = None,
    replace: Replace = False,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Take OneSignal's export into the directory; segments follow at once."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    if replace:
        ask_first(f"Forget of {name} every user and subscription not in {file}?", yes=yes)
    try:
        report = run(partial(import_file, settings, name, file, replace=replace))
    except FileRejected as error:
        raise CommandFailed(f"{error.reason}: {error.detail}") from error
    said = f"{report.rows:,} subscriptions read, of {report.users:,} users of {name}"
    if report.anonymous:
        said += f"; {report.anonymous:,} without External ID were left out"
    if report.broken_rows:
        said += f"; {report.broken_rows:,} without a usable id were skipped"
    output().print(said)


@commands.command()
def sync(*, app: AppOption = None, env_file: EnvFile = None) -> None:
    """Refresh the directory from OneSignal now."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    is_new = run(partial(_sync, settings, name))
    output().print(
        f"the refresh of {name} {'is asked for' if is_new else 'was under way already'}; "
        "relay directory show tells when it is done"
    )


@commands.command()
def show(
    external_id: ExternalId = None,
    *,
    app: AppOption = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show how large and how old the directory is, or what is known of one user."""
    settings = read_settings(env_file)
    name = named_or_only_app(settings, app)
    answer: UserAnswer | DirectoryAnswer
    if external_id is None:
        answer = run(partial(fetch_directory, settings, name))
    else:
        answer = run(partial(fetch_user, settings, name, external_id))
    if as_json:
        with open_sink(None) as sink:
            sink.add(answer.model_dump_json().encode())
    elif isinstance(answer, UserAnswer):
        show_user(answer)
    else:
        show_directory(answer)


async def _sync(settings: Settings, app: str) -> bool:
    async with open_admin_api(settings) as api:
        return (await api.post(path_of("directory", app, "sync"), Affected)).affected > 0
