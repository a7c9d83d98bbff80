"""`relay status`: the state of the running daemon and of every app."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

import anyio
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relay.cli.client import HttpClient, open_daemon_client
from relay.cli.data_access import DAEMON, call
from relay.cli.exit_codes import run
from relay.cli.json_output import print_json_line
from relay.cli.options import Configured
from relay.cli.output import clean, instant, new_table, output, span
from relay.errors import CommandFailed
from relay.http.admin.operations import NoInput
from relay.http.admin.schemas import AppStatusAnswer, SegmentsStatusAnswer, StatusAnswer
from relay.http.admin.status import SHOW_STATUS
from relay.settings import Settings

REFRESH_S: Final = 1.0

COUNTS: Final = (
    "accepted",
    "pending",
    "in_flight",
    "delivered",
    "dead",
    "discarded",
    "duplicate",
    "filtered",
    "quarantined",
)
SEGMENT_COUNTS: Final = ("active", "held", "stale", "archived")

DELIVERY_STYLES: Final = {
    "running": "green",
    "backing_off": "yellow",
    "paused": "yellow",
    "halted": "bold red",
}


def status(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's JSON.")] = False,
    settings: Configured,
) -> None:
    """Show how the running daemon and its apps stand."""
    if watch and as_json:
        raise typer.BadParameter("--watch and --json exclude each other")
    if as_json:
        print_json_line(call(settings, DAEMON, SHOW_STATUS, NoInput()))
    elif watch:
        try:
            run(partial(_watch, settings))
        except KeyboardInterrupt:
            return  # the only way out of a watch
    else:
        output().print(picture(call(settings, DAEMON, SHOW_STATUS, NoInput())))


async def _watch(settings: Settings) -> None:
    async with open_daemon_client(settings) as client:
        shown = await _ask(client)
        if not output().is_terminal:
            await _follow(client, output().print)
        with Live(shown, console=output(), auto_refresh=False) as live:
            await _follow(client, partial(live.update, refresh=True))


async def _follow(client: HttpClient, show: Callable[[RenderableType], None]) -> None:
    """Show the status again and again, until cancelled."""
    while True:
        try:
            show(await _ask(client))
        except CommandFailed as error:  # a daemon that restarts answers again soon
            show(Text(str(error), style="bold red"))
        await anyio.sleep(REFRESH_S)


async def _ask(client: HttpClient) -> RenderableType:
    return picture(await client.call(SHOW_STATUS, NoInput()))


def picture(answer: StatusAnswer) -> RenderableType:
    """Return the status as tables."""
    word, style = ("ready", "green") if answer.ready else ("not ready", "bold red")
    head = Text(f"relay {clean(answer.version)}, up for {span(answer.uptime_s)}, ")
    head.append(word, style=style)
    return Group(head, _events_table(answer), *_losses(answer), _segments_table(answer))


def _losses(answer: StatusAnswer) -> list[Text]:
    """Return a warning for every app that lost events to damage."""
    return [
        Text(
            f"{clean(app)}: {own.lost:,} of the discarded events were lost to damage of the disk; "
            "`relay check` names what was set aside",
            style="bold red",
        )
        for app, own in answer.apps.items()
        if own.lost
    ]


def _events_table(answer: StatusAnswer) -> Table:
    counts = [name.replace("_", " ") for name in COUNTS]
    numbers = (*counts, "oldest")
    table = new_table(("app", *numbers, "delivery", "last error"), numbers=numbers)
    for app, own in answer.apps.items():
        table.add_row(Text(clean(app)), *_cells(own))
    return table


def _segments_table(answer: StatusAnswer) -> Table:
    numbers = (*SEGMENT_COUNTS, "downloads", "left")
    headings = ("app", *numbers, "next download", "last run", "why it waits")
    table = new_table(headings, numbers=numbers)
    for app, own in answer.segments.items():
        table.add_row(Text(clean(app)), *_segment_cells(own))
    return table


def _segment_cells(own: SegmentsStatusAnswer) -> list[Text]:
    counts = [Text(f"{getattr(own, name):,}") for name in SEGMENT_COUNTS]
    if own.held:
        counts[SEGMENT_COUNTS.index("held")].stylize("bold red")
    return [
        *counts,
        Text(f"{own.downloads_this_month:,}"),
        Text(f"{own.downloads_left:,}"),
        Text("" if own.next_download_at is None else instant(own.next_download_at)),
        Text(instant(own.last_run_at)),
        Text(clean(own.last_error or "")),
    ]


def _cells(own: AppStatusAnswer) -> list[Text]:
    counts = [Text(f"{getattr(own, name):,}") for name in COUNTS]
    oldest = "" if own.oldest_pending_age_s is None else span(own.oldest_pending_age_s)
    delivery = Text(own.delivery.replace("_", " "), style=DELIVERY_STYLES[own.delivery])
    return [*counts, Text(oldest), delivery, Text(clean(own.last_error or ""))]
