"""What is left on the screen at the end: the proof, and how to go on by hand."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from relay.cli.output import clean
from relay.demo.row import Row
from relay.demo.stage import DATA_NAME, Stage

CULPRITS_SHOWN: Final = 10
HELD: Final = "held"
BROKEN: Final = "BROKEN"
_ONE_EVENT: Final = '{"event":{"kind":"message.push.clicked","subscription_id":"a-phone"}}'


def proof_table(rows: Sequence[Row], elapsed_s: float) -> RenderableType:
    """Return the proof as a table, and a sentence below it."""
    table = Table(box=box.SIMPLE, title="The proof, from the stand-ins' side", title_justify="left")
    table.add_column("")
    table.add_column("no.", justify="right")
    table.add_column("promise", overflow="fold")
    table.add_column("measured", overflow="fold")
    for row in rows:
        mark = Text(HELD, style="green") if row.is_held else Text(BROKEN, style="bold red")
        table.add_row(mark, row.number, Text(row.promise), Text(clean(_measured(row))))
    broken = sum(not row.is_held for row in rows)
    verdict = (
        Text(f"Every promise held ({len(rows)} of {len(rows)}), in {elapsed_s:.0f} s.", "green")
        if not broken
        else Text(f"{broken} of {len(rows)} promises did not hold.", "bold red")
    )
    return Group("", table, verdict)


def _measured(row: Row) -> str:
    if row.is_held:
        return row.figures
    shown = "; ".join(row.culprits[:CULPRITS_SHOWN])
    more = len(row.culprits) - CULPRITS_SHOWN
    return f"{row.figures}: {shown}" + (f"; and {more} more" if more > 0 else "")


def invitation(stage: Stage) -> list[str]:
    """Return what a person can do with the stage, for copying."""
    door, admin = stage.doors.sandbox, f"http://{stage.doors.admin}"
    app, cohort = stage.apps[0], stage.script.audience.polled
    (newcomer,) = stage.script.audience.moves["pushed"].entering
    faults = f"{door}/_sandbox/amplitude/faults"
    return [
        "",
        "Everything runs on until Ctrl-C, which removes it all.",
        f"Data: {stage.folder / DATA_NAME}   Log: {stage.process.log_path}",
        "Relay:",
        f"  curl {admin}/api/v1/status",
        f"  curl {admin}/api/v1/dead-letters",
        f"  curl {admin}/api/v1/segments",
        f"  curl {admin}/metrics",
        f"  curl -d '{_ONE_EVENT}' {stage.doors.hook(app)} -H 'Authorization: Bearer {app.token}'",
        "OneSignal:",
        f'  curl -d \'{{"events":1000,"rate_per_s":100}}\' {door}/_sandbox/onesignal/start',
        f"  curl {door}/_sandbox/onesignal",
        "Amplitude, and ways to break it:",
        f"  curl {door}/_sandbox/amplitude",
        f'  curl -d \'{{"name":"503","seconds":10}}\' {faults}',
        f"  curl -X DELETE {faults}",
        "A cohort, and a user more in it:",
        f"  curl {door}/_sandbox/cohorts/{cohort.id}",
        f'  curl -d \'{{"add":["{newcomer}"]}}\' {door}/_sandbox/cohorts/{cohort.id}/members',
    ]
