"""What is left on the screen at the end: the promises, and how to go on by hand."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from relay.cli.output import clean
from relay.demo.checks import Check
from relay.demo.checks.result import Result
from relay.demo.environment import DATA_NAME, Environment
from relay.demo.scenario import steps_proving

_FAILURES_SHOWN: Final = 10
_ONE_EVENT: Final = '{"event":{"kind":"message.push.clicked","subscription_id":"a-phone"}}'


def results_table(results: Sequence[tuple[Check, Result]], elapsed_s: float) -> RenderableType:
    """Return a row for each promise, and the verdict in a sentence.

    Args:
        results: Of all checks.
        elapsed_s: How long the demo took, in seconds.
    """
    title = "The promises, checked from the stand-ins' side"
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("")
    table.add_column("no.", justify="right")
    table.add_column("promise", overflow="fold")
    table.add_column("steps")
    table.add_column("measured", overflow="fold")
    for check, result in results:
        mark = Text("held", "green") if result.is_held else Text("BROKEN", "bold red")
        steps = ", ".join(map(str, steps_proving(check.judge)))
        table.add_row(
            mark, check.number, Text(check.promise), steps, Text(clean(_measured(result)))
        )
    broken = sum(not result.is_held for _, result in results)
    verdict = (
        Text(f"{broken} of {len(results)} promises did not hold.", "bold red")
        if broken
        else Text(
            f"Every promise held ({len(results)} of {len(results)}), in {elapsed_s:.0f} s.", "green"
        )
    )
    return Group("", table, verdict)


def _measured(result: Result) -> str:
    if result.is_held:
        return result.figures
    shown = "; ".join(result.failures[:_FAILURES_SHOWN])
    more = len(result.failures) - _FAILURES_SHOWN
    return f"{result.figures}: {shown}" + (f"; and {more} more" if more > 0 else "")


def invitation(env: Environment) -> list[str]:
    """Return commands to try on the running environment, for copying."""
    door, admin = env.addresses.sandbox, f"http://{env.addresses.admin}"
    app, cohorts = env.plan.apps[0], env.plan.cohorts
    (new_member,) = cohorts.moves["pushed"].entering
    hook = env.addresses.hook(app)
    faults, cohort = f"{door}/_sandbox/amplitude/faults", f"{door}/_sandbox/cohorts"
    log = env.process.log_path
    return [
        "",
        "Everything runs on until Ctrl-C, which removes it all.",
        f"Data: {log.with_name(DATA_NAME)}   Log: {log}",
        "Relay:",
        f"  curl {admin}/api/v1/status",
        f"  curl {admin}/api/v1/dead-letters",
        f"  curl {admin}/api/v1/segments",
        f"  curl {admin}/metrics",
        f"  curl -d '{_ONE_EVENT}' {hook} -H 'Authorization: Bearer {app.token}'",
        "OneSignal:",
        f'  curl -d \'{{"events":1000,"rate_per_s":100}}\' {door}/_sandbox/onesignal/start',
        f"  curl {door}/_sandbox/onesignal",
        "Amplitude, and ways to break it:",
        f"  curl {door}/_sandbox/amplitude",
        f'  curl -d \'{{"name":"503","seconds":10}}\' {faults}',
        f"  curl -X DELETE {faults}",
        "A cohort, and one more user in it:",
        f"  curl {cohort}/{cohorts.polled.id}",
        f'  curl -d \'{{"add":["{new_member}"]}}\' {cohort}/{cohorts.polled.id}/members',
    ]
