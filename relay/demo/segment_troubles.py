"""The cohort acts in which something goes wrong; each makes it right again at its end."""

from typing import Final

from relay.demo.segment_telling import SegmentTelling
from relay.http.admin.segment_schemas import ExplainAnswer
from relay.sandbox.cohorts.conditions import Job
from relay.sandbox.cohorts.files import FileShape

BROKEN_FILES: Final = (
    ("cut in the middle", FileShape(cut="gzip"), "truncated"),
    ("without any row", FileShape(max_rows=0), "no_members"),
    ("a page of HTML", FileShape(content="html"), "not_csv"),
    ("well formed, but half of it is missing", FileShape(cut="line"), "size_mismatch"),
)
"""What is wrong with a file, its shape, and the reason of the run that fails with it."""


async def break_files(told: SegmentTelling) -> None:
    """The cohort is computed anew, but its file is of no use, in several ways."""
    stage, conditions = told.stage, told.amplitude.conditions
    stage.view.begin_act(
        "12. Broken files", "Amplitude computes the cohort anew, and sends rubbish"
    )
    before = told.last_run
    conditions.shape = BROKEN_FILES[0][1]
    cohort = told.compute(told.audience.polled.id, told.audience.moves["broken"])
    for words, shape, reason in BROKEN_FILES:
        conditions.shape = shape
        await told.until(
            lambda reason=reason: bool(_failed(told, reason, before)),  # type: ignore[misc]
            f"a file, {words}, fails the run",
        )
        told.noted.refused[words] = _failed(told, reason, before)[0]
        await told.compare(f"a file, {words}", cohort.id)
        stage.view.say(f"a file, {words}: the run failed, the segment stayed ({reason})")
    told.expect(cohort)
    conditions.shape = None
    await told.until_revision(cohort.id)
    await told.compare("a whole file again", cohort.id)
    stage.view.say("the file is whole again: the next poll applied it")


def _failed(told: SegmentTelling, reason: str, after: int) -> list[str]:
    """Return why runs failed, of those that did for a certain reason."""
    return [
        run.reason
        for run in told.runs("failed", after)
        if run.reason is not None and run.reason.startswith(f"{reason}:")
    ]


async def lose_cohort(told: SegmentTelling) -> None:
    """The cohort is gone from Amplitude's list for a while."""
    stage, cohort = told.stage, told.polled
    exports = len(told.exports)
    told.amplitude.remove(cohort.id, api_key=told.app.api_key)
    await told.until(lambda: _state(told, cohort.id) == "stale", "the segment is stale")
    told.noted.missing_state = _state(told, cohort.id)
    await told.compare("the cohort is gone", cohort.id)
    stage.view.say("the cohort is gone from the list: the segment is stale and keeps its members")
    told.put(cohort)
    await told.until(lambda: _state(told, cohort.id) == "active", "the segment is active again")
    await told.compare("the cohort is back", cohort.id)
    further = len(told.exports) - exports
    stage.view.say(f"the cohort is back: active again, after {further} further downloads")


def _state(told: SegmentTelling, cohort_id: str) -> str:
    segment = told.segment(cohort_id)
    return "" if segment is None else segment.state


async def hold_shrink(told: SegmentTelling) -> ExplainAnswer:
    """Almost half of the members are to leave at once; return the explanation meanwhile."""
    stage, applied, move = told.stage, told.polled, told.audience.moves["shrink"]
    stage.view.begin_act("13. An implausible shrink", "almost half of the members would leave")
    cohort = told.compute(applied.id, move)
    await told.until(lambda: _state(told, cohort.id) == "held", "the run is held")
    held = told.runs("held")[-1]
    told.noted.held_reason = held.reason or ""
    told.noted.held_leavers = len(move.leaving)
    stage.view.say(f"run {held.run_id} is held: {held.reason}")
    await told.compare("the shrink is held", cohort.id)
    explained = await told.explain("the shrink is held", applied)
    told.expect(cohort)
    return explained


async def kill_during_export(told: SegmentTelling) -> None:
    """SIGKILL while Amplitude makes the file of an export."""
    stage, noted = told.stage, told.telling.measured
    stage.view.begin_act("15. SIGKILL in an export", "while Amplitude still makes the file")
    before = len(told.exports)
    conditions = told.amplitude.conditions
    conditions.limits.parallel = before + 2  # for while none completes, the old ones count as well
    conditions.job = Job(never_completes=True)
    cohort = told.compute(told.audience.polled.id, told.audience.moves["export"])
    told.expect(cohort)
    await told.until(lambda: _is_asked_after(told, before), "an export is under way")
    export = told.exports[before]
    began_s = stage.clock.monotonic_s()
    await stage.process.kill()
    told.noted.exports_killed = 1
    polls = export.polls
    stage.view.say("killed while an export was under way")
    await stage.start_relay()
    restart_s = stage.clock.monotonic_s() - began_s
    noted.kills += 1
    noted.restart_s = max(noted.restart_s, restart_s)
    await told.until(lambda: export.polls > polls, "relay asks for the same export again")
    stage.view.say(f"ready after {restart_s:.1f} s; relay asks for the same export again")
    conditions.job = Job()
    await told.until_revision(cohort.id)
    await told.compare("a SIGKILL in an export", cohort.id)
    told.noted.exports_repeated = len(told.exports) - before - 1
    stage.view.say(f"its file is applied; {told.noted.exports_repeated} more were asked for")


def _is_asked_after(told: SegmentTelling, before: int) -> bool:
    """Tell whether relay waits for an export that it asked for since."""
    return any(export.polls > 1 for export in told.exports[before:])
