"""The steps in which cohorts meet faults; each step makes all well again at its end."""

from typing import Final

from relay.cli.explanation import numbers_of
from relay.cli.output import new_table
from relay.demo.environment import Environment
from relay.demo.scenario.segment_probe import SegmentProbe
from relay.http.admin.schemas import Affected
from relay.sandbox.cohort_files import FileShape
from relay.sandbox.cohort_project import Job
from relay.segments.read_model import Explanation

_BROKEN_FILES: Final = (
    ("cut in the middle", FileShape(cut="gzip"), "truncated"),
    ("without any row", FileShape(max_rows=0), "no_members"),
    ("a page of HTML", FileShape(content="html"), "not_csv"),
    ("well formed, but half of it is missing", FileShape(cut="line"), "size_mismatch"),
)
"""What is wrong with a file, its shape, and the reason of the run that fails with it."""


async def break_files(env: Environment) -> None:
    """Send a file that is of no use, in several ways; then let the cohort go missing."""
    probe = SegmentProbe(env)
    conditions, before = probe.amplitude.conditions, probe.last_run

    def failures(reason: str) -> list[str]:
        return [
            run.reason
            for run in probe.runs("failed", before)
            if run.reason is not None and run.reason.startswith(f"{reason}:")
        ]

    # Set before the computation: relay must never find a whole file of it.
    conditions.shape = _BROKEN_FILES[0][1]
    cohort = probe.compute(probe.plan.polled.id, "broken")
    for words, shape, reason in _BROKEN_FILES:
        conditions.shape = shape
        await probe.until(
            lambda reason=reason: bool(failures(reason)),  # type: ignore[misc]
            f"a file, {words}, fails the run",
        )
        probe.notes.failed_files[words] = failures(reason)[0]
        await probe.compare(f"a file, {words}", cohort.id)
        env.display.say(f"a file, {words}: the run failed, the segment is unchanged ({reason})")
    probe.expect(cohort)
    conditions.shape = None
    await probe.until_revision(cohort.id)
    await probe.compare("a whole file again", cohort.id)
    env.display.say("the file is whole again: the next poll applied it")
    await _lose_cohort(probe)


async def _lose_cohort(probe: SegmentProbe) -> None:
    cohort, exports, say = probe.polled, len(probe.exports), probe.env.display.say
    probe.amplitude.remove(cohort.id, api_key=probe.app.api_key)
    await probe.until_state(cohort.id, "stale")
    probe.notes.missing_state = probe.state(cohort.id)
    await probe.compare("the cohort is gone", cohort.id)
    say("the cohort is gone from the list: the segment is stale and keeps its members")
    probe.put(cohort)
    await probe.until_state(cohort.id, "active")
    await probe.compare("the cohort is back", cohort.id)
    further = len(probe.exports) - exports
    say(f"the cohort is back: active again, after {further} further downloads")


async def shrink_cohort(env: Environment) -> None:
    """Let almost half of the members leave at once, and approve that after a look."""
    probe = SegmentProbe(env)
    applied = probe.polled
    cohort = probe.compute(applied.id, "shrink")
    await probe.until_state(cohort.id, "held")
    held = probe.runs("held")[-1]
    probe.notes.held_reason = held.reason or ""
    probe.notes.held_leavers = len(probe.plan.moves["shrink"].leaving)
    env.display.say(f"run {held.run_id} is held: {held.reason}")
    await probe.compare("the shrink is held", cohort.id)
    explained = await probe.explain("the shrink is held", applied)
    env.display.say("meanwhile relay explains the list that is in force:")
    table = new_table(("", "number"), numbers=("number",))
    for part, number in numbers_of(Explanation(**explained.model_dump())):
        table.add_row(part.label, f"{number:,}")
    env.display.show(table)
    probe.expect(cohort)
    await env.api.post(f"/cohort-runs/{held.run_id}/approve", Affected)
    await probe.until_revision(cohort.id)
    await probe.compare("the approval", cohort.id)
    await probe.explain("the approval", cohort)
    env.display.say("approved: the segment shrank in one step")


async def kill_during_export(env: Environment) -> None:
    """End relay with SIGKILL while Amplitude still makes the file of an export."""
    probe = SegmentProbe(env)
    conditions, before = probe.amplitude.conditions, len(probe.exports)
    # While no export completes, the old ones count as running too.
    conditions.limits.parallel = before + 2
    conditions.job = Job(never_completes=True)
    cohort = probe.compute(probe.plan.polled.id, "export")
    probe.expect(cohort)
    await probe.until(
        lambda: any(export.polls > 1 for export in probe.exports[before:]),
        "an export is under way",
    )
    export = probe.exports[before]
    killed_at_s = await env.kill_relay()
    probe.notes.exports_killed = 1
    polls = export.polls
    env.display.say("killed while an export was under way")
    restart_s = await env.restart_relay(killed_at_s)
    await probe.until(lambda: export.polls > polls, "relay asks for the same export again")
    env.display.say(f"ready after {restart_s:.1f} s; relay asks for the same export again")
    conditions.job = Job()
    await probe.until_revision(cohort.id)
    await probe.compare("a SIGKILL in an export", cohort.id)
    probe.notes.exports_repeated = len(probe.exports) - before - 1
    env.display.say(f"its file is applied; {probe.notes.exports_repeated} more were asked for")
