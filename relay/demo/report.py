"""What is left on the screen at the end: the promises, and how to go on by hand."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from relay.cli.output import clean
from relay.demo.checks import Check, Result, events, operation, segments
from relay.demo.environment import DATA_NAME, Environment
from relay.demo.evidence import Evidence
from relay.demo.scenario import steps_proving

_FAILURES_SHOWN: Final = 10
_INVITATION: Final = """
Everything runs on until Ctrl-C, which removes it all.
Data: {data}   Log: {log}
Relay:
  curl {admin}/api/v1/status
  curl {admin}/api/v1/dead-letters
  curl {admin}/api/v1/segments
  curl {admin}/metrics
  curl -d '{{"event":{{"kind":"message.push.clicked","subscription_id":"a-phone"}}}}' {hook} \
    -H 'Authorization: Bearer {token}'
OneSignal:
  curl -d '{{"events":1000,"rate_per_s":100}}' {sandbox}/onesignal/start
  curl {sandbox}/onesignal
Amplitude, and ways to break it:
  curl {sandbox}/amplitude
  curl -d '{{"name":"503","seconds":10}}' {sandbox}/amplitude/faults
  curl -X DELETE {sandbox}/amplitude/faults
A cohort, and one more user in it:
  curl {sandbox}/cohorts/{cohort}
  curl -d '{{"add":["{new_member}"]}}' {sandbox}/cohorts/{cohort}/members"""

CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("", operation.scenario_completed),
    ("1", events.nothing_lost),
    ("1", events.outage_harmless),
    ("1", events.poison_dead_lettered),
    ("1", events.retried_arrived),
    ("1", events.quarantine_is_raw),
    ("2", events.counted_once),
    ("2", events.nothing_invented),
    ("2", events.same_bytes),
    ("3", segments.members_are_true),
    ("3", segments.revisions_are_whole),
    ("3", segments.never_emptied),
    ("3", segments.shrink_held),
    ("3", segments.changes_lead_there),
    ("4", operation.counts_add_up),
    ("4", operation.counts_survive),
    ("4", operation.final_counts),
    ("", events.order_kept),
    ("", events.no_forbidden_fields),
    ("", events.late_completed),
    ("", events.apps_are_independent),
    ("", events.devices_are_independent),
    ("", segments.messages_count_once),
    ("", segments.explanations_add_up),
    ("", segments.export_resumed),
    ("", operation.log_is_clean),
    ("", operation.ended_in_order),
)
"""All checks in the order of the report, with the number of the contract's promise, if any."""

Results: TypeAlias = Sequence[tuple[str, Check, Result]]


def run_checks(evidence: Evidence) -> Results:
    """Return every check with its result."""
    return [(number, check, check(evidence)) for number, check in CHECKS]


def results_table(results: Results, elapsed_s: float) -> RenderableType:
    """Return a row for each promise, and the verdict in a sentence."""
    title = "The promises, checked from the stand-ins' side"
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("")
    table.add_column("no.", justify="right")
    table.add_column("promise", overflow="fold")
    table.add_column("steps")
    table.add_column("measured", overflow="fold")
    for number, check, result in results:
        mark = Text("held", "green") if result.is_held else Text("BROKEN", "bold red")
        promise = (check.__doc__ or "").partition("\n")[0].removesuffix(".")
        steps = ", ".join(map(str, steps_proving(check)))
        table.add_row(mark, number, promise, steps, Text(clean(_measured(result))))
    broken = sum(not result.is_held for *_, result in results)
    if broken:
        verdict = Text(f"{broken} of {len(results)} promises did not hold.", "bold red")
    else:
        held = f"Every promise held ({len(results)} of {len(results)}), in {elapsed_s:.0f} s."
        verdict = Text(held, "green")
    return Group("", table, verdict)


def _measured(result: Result) -> str:
    if result.is_held:
        return result.figures
    shown = "; ".join(result.failures[:_FAILURES_SHOWN])
    more = len(result.failures) - _FAILURES_SHOWN
    return f"{result.figures}: {shown}" + (f"; and {more} more" if more > 0 else "")


def invitation(env: Environment) -> str:
    """Return commands to try on the running environment, for copying."""
    (new_member,) = env.plan.cohorts.moves["pushed"].entering
    return _INVITATION.format(
        data=env.process.log_path.with_name(DATA_NAME),
        log=env.process.log_path,
        admin=f"http://{env.addresses.admin}",
        hook=env.addresses.hook(env.plan.apps[0]),
        token=env.plan.apps[0].token,
        sandbox=f"{env.addresses.sandbox}/_sandbox",
        cohort=env.plan.cohorts.polled.id,
        new_member=new_member,
    )
