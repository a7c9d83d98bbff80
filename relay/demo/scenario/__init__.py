"""The scenario: its steps, each with what it does and what it proves, and how they are run."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

from relay.cli.listing import walk
from relay.demo.checks import Check, operation
from relay.demo.checks import events as event_checks
from relay.demo.checks import segments as segment_checks
from relay.demo.display import Figures
from relay.demo.environment import Environment
from relay.demo.evidence import AppEvidence, Evidence
from relay.demo.relay_process import DemoFailed, StepTimeout
from relay.demo.scenario import events, segments
from relay.http.admin.dead_letters import LIST_DEAD_LETTERS
from relay.http.admin.quarantine import LIST_QUARANTINE
from relay.http.admin.schemas import Listing
from relay.sandbox.amplitude.conditions import Conditions

SETTLE_S: Final = 8.0
"""For uploads that are still under way after the last step."""


class Step(NamedTuple):
    """One step of the scenario."""

    title: str
    run: Callable[[Environment], Awaitable[None]]  # the first line of its docstring is printed
    proves: tuple[Check, ...] = ()  # the checks it puts to the test


STEPS: Final = (
    Step("Start", events.start),
    Step(
        "A day's traffic",
        events.send_traffic,
        (
            event_checks.nothing_lost,
            event_checks.quarantine_is_raw,
            event_checks.nothing_invented,
            event_checks.order_kept,
            event_checks.no_forbidden_fields,
            operation.counts_add_up,
            operation.log_is_clean,
        ),
    ),
    Step("A refused key", events.refuse_key, (event_checks.apps_are_independent,)),
    Step(
        "Amplitude is down",
        events.break_amplitude,
        (
            event_checks.outage_harmless,
            event_checks.nothing_lost,
            event_checks.counted_once,
            event_checks.same_bytes,
            event_checks.late_completed,
        ),
    ),
    Step(
        "Poison, and a device that is too fast",
        events.poison_and_throttle,
        (event_checks.poison_dead_lettered, event_checks.devices_are_independent),
    ),
    Step(
        "SIGKILL",
        events.kill_relay,
        (
            event_checks.nothing_lost,
            event_checks.counted_once,
            event_checks.same_bytes,
            event_checks.order_kept,
            operation.counts_survive,
        ),
    ),
    Step("Calm", events.drain, (operation.final_counts,)),
    Step("Dead letters", events.retry_dead_letter, (event_checks.retried_arrived,)),
    Step("The directory", segments.fill_directory),
    Step(
        "A cohort",
        segments.download_cohort,
        (segment_checks.members_are_true, segment_checks.explanations_add_up),
    ),
    Step(
        "The cohort changes",
        segments.change_cohort,
        (segment_checks.revisions_are_whole, segment_checks.changes_lead_there),
    ),
    Step("Broken files", segments.break_files, (segment_checks.never_emptied,)),
    Step(
        "An implausible shrink",
        segments.shrink_cohort,
        (segment_checks.shrink_held, segment_checks.explanations_add_up),
    ),
    Step("The webhook", segments.push_cohort, (segment_checks.messages_count_once,)),
    Step(
        "SIGKILL in an export",
        segments.kill_during_export,
        (segment_checks.export_resumed, operation.counts_survive),
    ),
    Step("SIGTERM", events.stop, (operation.ended_in_order,)),
)
"""In the order of time. The last one is run in any case."""


def steps_proving(check: Check) -> list[int]:
    """Return the numbers of the steps that put a check to the test; none = all of them do."""
    return [number for number, step in enumerate(STEPS, 1) if check in step.proves]


async def run_scenario(env: Environment) -> Evidence:
    """Run the steps, as far as they go, and return the evidence; relay has ended then.

    After a step that waited in vain the faults are removed and what can be proven is proven.

    Raises:
        DemoFailed: If relay does not come up, does not answer or ends by itself.
    """
    *steps, last = enumerate(STEPS, 1)
    amplitude = env.stand_ins.amplitude
    try:
        for number, step in steps:
            await _run(env, number, step)
    except StepTimeout as timeout:
        env.notes.timeout = str(timeout)
        env.display.say(f"This step does not come to its end: {timeout}.")
        amplitude.faults.clear()
        amplitude.conditions = Conditions()
    try:
        await env.status.until_drained("the last upload is settled", within_s=SETTLE_S)
    except StepTimeout as timeout:
        env.notes.timeout = env.notes.timeout or str(timeout)
    apps = await _collect_apps(env)
    await _run(env, *last)
    log = env.process.log_path.read_text(encoding="utf-8", errors="replace")
    secrets = {secret: name for app in env.plan.apps for secret, name in app.secrets.items()}
    return Evidence(
        apps=apps,
        notes=env.notes,
        history=env.segments.history,
        samples=env.status.samples,
        violations=amplitude.ledger.violation_counts,
        requests=amplitude.ledger.total_requests,
        uploaded=sum(request.events for request in amplitude.ledger.requests),
        leaks=find_leaks(log, secrets, env.plan.cohorts.private_ids | env.plan.traffic.private_ids),
        log_lines=log.count("\n"),
    )


async def _run(env: Environment, number: int, step: Step) -> None:
    summary = (step.run.__doc__ or "").partition("\n")[0]

    def figures() -> list[Figures]:
        return segments.figures(env) or events.figures(env)

    with env.display.step(f"{number}. {step.title}", summary, figures):
        await step.run(env)


async def _collect_apps(env: Environment) -> list[AppEvidence]:
    """Return all sides of each app, relay's by its own account."""
    if env.status.latest is None:
        raise DemoFailed("relay does not answer any more")
    letters = [letter async for letter in walk(env.api, LIST_DEAD_LETTERS, Listing())]
    bodies = [body async for body in walk(env.api, LIST_QUARANTINE, Listing())]
    if not env.notes.dead_before_retry:  # the scenario did not get as far as the retry
        env.notes.dead_before_retry = {letter.insert_id: letter.reason for letter in letters}
    return [
        AppEvidence(
            app=app.name,
            deliveries=env.stand_ins.deliveries[app.name],
            account=env.stand_ins.account(app),
            counts=env.status.latest.apps[app.name],
            dead={each.insert_id: each.reason for each in letters if each.app == app.name},
            quarantined=Counter(each.body.encode() for each in bodies if each.app == app.name),
            late=env.plan.traffic.apps[app.name].late,
        )
        for app in env.plan.apps
    ]


def find_leaks(log: str, secrets: Mapping[str, str], private_ids: Iterable[str]) -> list[str]:
    """Return what a log must not hold but does: secrets by their names, ids as they are."""
    leaked = [name for secret, name in secrets.items() if secret in log]
    return leaked + sorted(text for text in private_ids if text in log)
