"""`relay directory`: the users OneSignal knows, as far as relay does."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer

from relay.cli.data_access import DAEMON, DIRECTORY, SEGMENTS, call, open_client
from relay.cli.exit_codes import run
from relay.cli.json_output import print_json_line
from relay.cli.options import AppOption, AsJson, Configured, Yes, ask_first, named_or_only_app
from relay.cli.output import instant, output, print_fields, progress_bar
from relay.cli.users import show_user
from relay.errors import CommandFailed, FileRejected
from relay.http.admin.directory import IMPORT_DIRECTORY, SHOW_DIRECTORY, SYNC_DIRECTORY
from relay.http.admin.operations import NoInput
from relay.http.admin.segment_schemas import (
    DirectoryAnswer,
    ImportAnswer,
    ImportOrder,
    SyncAnswer,
)
from relay.http.admin.users import SHOW_USER
from relay.settings import Settings

CHUNK_BYTES: Final = 1 << 16

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
    settings: Configured,
) -> None:
    """Take OneSignal's export into the directory; segments follow at once."""
    name = named_or_only_app(settings, app)
    if replace:
        ask_first(f"Forget of {name} every user and subscription not in {file}?", yes=yes)
    try:
        report = run(partial(_import, settings, name, file, replace=replace))
    except FileRejected as error:  # a daemon answers 400 with the same sentence
        raise CommandFailed(f"{error.reason}: {error.detail}") from error
    said = f"{report.rows:,} subscriptions read, of {report.users:,} users of {name}"
    if report.anonymous:
        said += f"; {report.anonymous:,} without External ID were left out"
    if report.broken_rows:
        said += f"; {report.broken_rows:,} without a usable id were skipped"
    output().print(said)


@commands.command()
def sync(*, app: AppOption = None, settings: Configured) -> None:
    """Refresh the directory from OneSignal now."""
    name = named_or_only_app(settings, app)
    is_new = call(settings, DAEMON, SYNC_DIRECTORY, NoInput(), app=name).affected
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
    settings: Configured,
) -> None:
    """Show how large and how old the directory is, or what is known of one user."""
    name = named_or_only_app(settings, app)
    if external_id is None:
        directory = call(settings, SEGMENTS, SHOW_DIRECTORY, NoInput(), app=name)
        (print_json_line if as_json else _show_directory)(directory)
    else:
        user = call(settings, SEGMENTS, SHOW_USER, NoInput(), app=name, external_id=external_id)
        (print_json_line if as_json else show_user)(user)


async def _import(settings: Settings, app: str, file: Path, *, replace: bool) -> ImportAnswer:
    async with open_client(settings, DIRECTORY) as client:
        size_bytes = (await anyio.Path(file).stat()).st_size
        with progress_bar("reading", size_bytes, then="applying") as proceed:
            order, chunks = ImportOrder(replace=replace), _read(file, proceed)
            return await client.call(IMPORT_DIRECTORY, order, chunks, app=app)


async def _read(file: Path, proceed: Callable[[int], None]) -> AsyncIterator[bytes]:
    read_bytes = 0
    async with await anyio.open_file(file, "rb") as source:
        while chunk := await source.read(CHUNK_BYTES):
            yield chunk
            read_bytes += len(chunk)
            proceed(read_bytes)


def _show_directory(directory: DirectoryAnswer) -> None:
    fields = {
        "app": directory.app,
        "users": f"{directory.users:,}",
        "subscriptions": f"{directory.subscriptions:,}, {directory.subscribed:,} subscribed",
        "whole export": (
            f"as of {instant(directory.exported_at)}, applied {instant(directory.synced_at)}"
            if directory.synced_at
            else "never; relay directory sync, or relay directory import FILE --replace"
        ),
    }
    if directory.sync is None:
        fields["refresh"] = "no relay is running, so none is under way"
    else:
        fields["refresh"] = _refresh(directory.sync)
        if directory.sync.last_error:
            fields["last error"] = directory.sync.last_error
    print_fields(fields)


def _refresh(sync: SyncAnswer) -> str:
    if sync.is_running:
        return "under way"
    return "none is planned" if sync.next_at is None else f"next at {instant(sync.next_at)}"
