"""The scenario: its steps, each with what it does and what it proves, and how they are run.

Every step waits for facts, never for time alone. It notes what it saw and judges nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.demo.checks import Judge, behaviour, counters
from relay.demo.checks import events as event_checks
from relay.demo.checks import segments as segment_checks
from relay.demo.display import DOWN, Figures
from relay.demo.environment import Environment
from relay.demo.evidence import Evidence
from relay.demo.relay_process import StepTimeout
from relay.demo.scenario import events, faults, segment_faults, segments
from relay.demo.scenario.collect import ask_relay, collect
from relay.demo.scenario.segment_probe import segment_figures
from relay.sandbox.conditions import Conditions

SETTLE_S: Final = 8.0
"""For uploads that are still under way after the last step."""


def app_figures(env: Environment) -> list[Figures]:
    """Return what the display shows of every app, on both sides."""
    shown = []
    for app in env.plan.apps:
        recorder, counts = env.stand_ins.deliveries[app.name], env.status.app(app.name)
        numbers = {
            "sent": f"{recorder.requests}",
            "answered 200": f"{recorder.ok_answers}",
            "pending on disk": "?" if counts is None else f"{counts.pending}",
            "delivered": "?" if counts is None else f"{counts.delivered}",
            "dead": "?" if counts is None else f"{counts.dead}",
            "at Amplitude": f"{len(env.stand_ins.account(app).insert_ids)}",
        }
        state = DOWN if counts is None else counts.delivery
        shown.append(Figures("app", app.name, numbers, "delivery", state))
    return shown


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the scenario.

    Attributes:
        title: Its name.
        summary: What happens, in a sentence.
        run: Does it.
        proves: The checks it puts to the test.
        figures: What the display shows meanwhile.
    """

    title: str
    summary: str
    run: Callable[[Environment], Awaitable[None]]
    proves: tuple[Judge, ...] = ()
    figures: Callable[[Environment], Sequence[Figures]] = app_figures


STEPS: Final[Sequence[Step]] = (
    Step("Start", "stand-ins for both services, and a real relay", events.start),
    Step(
        "A day's traffic",
        "26 kinds of event in six kinds of body; some twice, broken, unknown or another app's",
        events.send_traffic,
        (
            event_checks.nothing_lost,
            event_checks.quarantine_is_raw,
            event_checks.nothing_invented,
            event_checks.order_kept,
            event_checks.no_forbidden_fields,
            counters.counts_add_up,
            behaviour.log_is_clean,
        ),
    ),
    Step(
        "A refused key",
        "Amplitude refuses the smaller app's key",
        faults.refuse_key,
        (behaviour.apps_are_independent,),
    ),
    Step(
        "Amplitude is down",
        "OneSignal goes on sending; relay goes on answering 200",
        faults.break_amplitude,
        (
            behaviour.outage_harmless,
            event_checks.nothing_lost,
            event_checks.counted_once,
            event_checks.same_bytes,
            event_checks.late_completed,
        ),
    ),
    Step(
        "Poison, and a device that is too fast",
        "two events are named one at a time, one is too large, a firewall refuses one",
        faults.poison_and_throttle,
        (event_checks.poison_dead_lettered, behaviour.devices_are_independent),
    ),
    Step(
        "SIGKILL",
        "twice in the middle of traffic, with uploads stored and not yet answered",
        faults.kill_relay,
        (
            event_checks.nothing_lost,
            event_checks.counted_once,
            event_checks.same_bytes,
            event_checks.order_kept,
            counters.counts_survive,
        ),
    ),
    Step(
        "Calm",
        "everything that waits reaches Amplitude",
        events.drain,
        (counters.final_counts,),
    ),
    Step(
        "Dead letters",
        "they are listed, and one is retried",
        events.retry_dead_letter,
        (event_checks.retried_arrived,),
    ),
    Step(
        "The directory",
        "relay imports OneSignal's users of the larger app from its CSV export",
        segments.fill_directory,
    ),
    Step(
        "A cohort",
        "its file names users OneSignal does not know, and rows without a user",
        segments.download_cohort,
        (segment_checks.members_are_true, segment_checks.explanations_add_up),
        segment_figures,
    ),
    Step(
        "The cohort changes",
        "Amplitude computes it anew",
        segments.change_cohort,
        (segment_checks.revisions_are_whole, segment_checks.changes_lead_there),
        segment_figures,
    ),
    Step(
        "Broken files",
        "Amplitude computes the cohort anew and sends files of no use; then the cohort is missing",
        segment_faults.break_files,
        (segment_checks.never_emptied,),
        segment_figures,
    ),
    Step(
        "An implausible shrink",
        "almost half of the members would leave",
        segment_faults.shrink_cohort,
        (segment_checks.shrink_held, segment_checks.explanations_add_up),
        segment_figures,
    ),
    Step(
        "The webhook",
        "Amplitude pushes a cohort, every message twice",
        segments.push_cohort,
        (segment_checks.messages_count_once,),
        segment_figures,
    ),
    Step(
        "SIGKILL in an export",
        "while Amplitude still makes the file",
        segment_faults.kill_during_export,
        (segment_checks.export_resumed, counters.counts_survive),
        segment_figures,
    ),
    Step("SIGTERM", "relay ends in order", events.stop, (behaviour.ended_in_order,)),
)
"""In the order of time. The last one is run in any case."""


async def run_scenario(env: Environment) -> Evidence:
    """Run the steps, as far as they go, and return the evidence; relay has ended then.

    After a step that waited in vain the faults are removed and what can be proven is proven.

    Raises:
        DemoFailed: If relay does not come up, does not answer or ends by itself.
    """
    try:
        for number in range(1, len(STEPS)):
            await _run(env, number)
    except StepTimeout as timeout:
        env.notes.timeout = str(timeout)
        env.display.say(f"This step does not come to its end: {timeout}.")
        env.stand_ins.amplitude.faults.clear()
        env.stand_ins.amplitude.conditions = Conditions()
    try:
        await env.status.until_drained("the last upload is settled", within_s=SETTLE_S)
    except StepTimeout as timeout:
        env.notes.timeout = env.notes.timeout or str(timeout)
    answers = await ask_relay(env)
    if not env.notes.dead_before_retry:
        env.notes.dead_before_retry = {each.insert_id: each.reason for each in answers.dead}
    await _run(env, len(STEPS))
    return collect(env, answers)


async def _run(env: Environment, number: int) -> None:
    step = STEPS[number - 1]
    with env.display.step(f"{number}. {step.title}", step.summary, lambda: step.figures(env)):
        await step.run(env)


def steps_proving(judge: Judge) -> list[int]:
    """Return the numbers of the steps that put a check to the test."""
    return [number for number, step in enumerate(STEPS, 1) if judge in step.proves]
