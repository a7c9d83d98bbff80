"""The steps about segments: Amplitude's cohorts are downloaded, pushed, broken, interrupted.

All of it is about the first app, while another program reads the segment views all the time.
The first line of a step is the summary that the display shows.
"""

from collections import Counter
from typing import Final

import anyio

from relay.cli.explain import numbers_of, summary
from relay.cli.output import new_table
from relay.demo.display import Figures
from relay.demo.environment import Environment
from relay.demo.expected import NO_MEMBERS, members_after_message
from relay.demo.relay_process import StepTimeout
from relay.demo.scenario.segment_probe import WITHIN_S, SegmentProbe
from relay.http.admin.directory import SHOW_DIRECTORY, SYNC_DIRECTORY
from relay.http.admin.operations import NoInput
from relay.http.admin.runs import APPROVE_RUN
from relay.http.admin.segment_schemas import DirectoryAnswer
from relay.sandbox.cohorts.conditions import Job
from relay.sandbox.cohorts.files import FileShape
from relay.sandbox.cohorts.webhook import CohortPush, PushOptions
from relay.sandbox.common.target import Target
from relay.segments.read_model import Explanation

_USERS_SHOWN: Final = 3
_EVERY_MESSAGE_TWICE: Final = PushOptions(users_per_message=200, duplicate_rate=1.0)
_BROKEN_FILES: Final = (
    ("cut in the middle", FileShape(cut="gzip"), "truncated"),
    ("without any row", FileShape(max_rows=0), "no_members"),
    ("a page of HTML", FileShape(content="html"), "not_csv"),
    ("well formed, but half of it is missing", FileShape(cut="line"), "size_mismatch"),
)
"""What is wrong with a file, its shape, and the reason of the run that fails with it."""


async def fill_directory(env: Environment) -> None:
    """Relay imports OneSignal's users of the larger app from its CSV export."""
    await env.background.start(env.segments.run, name="demo segment recorder")
    app = env.plan.apps[0].name
    before = await env.api.call(SHOW_DIRECTORY, NoInput(), app=app)
    await env.api.call(SYNC_DIRECTORY, NoInput(), app=app)
    after = await _synced_directory(env, app)
    env.display.say(
        f"events have shown {before.users} users; now {after.users} are known, with "
        f"{after.subscriptions} subscriptions, {after.subscribed} of them subscribed"
    )


async def _synced_directory(env: Environment, app: str) -> DirectoryAnswer:
    with anyio.move_on_after(WITHIN_S):
        while True:
            directory = await env.api.call(SHOW_DIRECTORY, NoInput(), app=app)
            if directory.synced_at is not None:
                return directory
            await env.status.next_poll()
    raise StepTimeout("OneSignal's export was not applied")


async def download_cohort(env: Environment) -> None:
    """Its file names users OneSignal does not know, and rows without a user."""
    probe = SegmentProbe(env)
    probe.expect_cohort(probe.plan.polled)
    cohort = probe.put(probe.plan.polled)
    await probe.until_revision(cohort.id, "the first download")
    explained = await probe.explain(cohort, "the first download")
    env.display.say(f"{cohort.name}: {summary(Explanation(**explained.model_dump()))}")


async def change_cohort(env: Environment) -> None:
    """Amplitude recomputes it."""
    probe = SegmentProbe(env)
    cohort = probe.recompute(probe.plan.polled.id, "change")
    probe.expect_cohort(cohort)
    await probe.until_revision(cohort.id, "another computation")
    for word in ("entered", "left"):
        changes = env.segments.last_changes.get(cohort.id, ())
        names = [change.external_id for change in changes if change.change == word]
        shown = ", ".join(names[:_USERS_SHOWN])
        env.display.say(f"segment_changes: {len(names)} {word}, among them {shown}")


async def break_files(env: Environment) -> None:
    """Amplitude recomputes it and sends useless files; then the cohort is missing."""
    probe = SegmentProbe(env)
    conditions, before = probe.amplitude.conditions, len(probe.runs("failed"))

    def failures(reason: str) -> list[str]:
        reasons = [run.reason or "" for run in probe.runs("failed")[before:]]
        return [each for each in reasons if each.startswith(f"{reason}:")]

    # Set before the computation: relay must never find a whole file of it.
    conditions.shape = _BROKEN_FILES[0][1]
    cohort = probe.recompute(probe.plan.polled.id, "broken")
    for words, shape, reason in _BROKEN_FILES:
        conditions.shape = shape
        await probe.until(
            lambda reason=reason: bool(failures(reason)),  # type: ignore[misc]
            f"a file, {words}, fails the run",
        )
        probe.notes.failed_files[words] = failures(reason)[0]
        await probe.compare(cohort.id, f"a file, {words}")
        env.display.say(f"a file, {words}: the run failed, the segment is unchanged ({reason})")
    probe.expect_cohort(cohort)
    conditions.shape = None
    await probe.until_revision(cohort.id, "a whole file again")
    env.display.say("the file is whole again: the next poll applied it")
    await _lose_cohort(probe)


async def _lose_cohort(probe: SegmentProbe) -> None:
    cohort, exports = probe.project.cohorts[probe.plan.polled.id], len(probe.exports)
    probe.amplitude.remove(cohort.id, api_key=probe.app.api_key)
    await probe.until_state(cohort.id, "stale")
    probe.notes.missing_state = probe.state(cohort.id)
    await probe.compare(cohort.id, "the cohort is gone")
    probe.env.display.say(
        "the cohort is gone from the list: the segment is stale and keeps its members"
    )
    probe.put(cohort)
    await probe.until_state(cohort.id, "active")
    await probe.compare(cohort.id, "the cohort is back")
    further = len(probe.exports) - exports
    probe.env.display.say(f"the cohort is back: active again, after {further} further downloads")


async def shrink_cohort(env: Environment) -> None:
    """Almost half of the members would leave."""
    probe = SegmentProbe(env)
    applied = probe.project.cohorts[probe.plan.polled.id]
    cohort = probe.recompute(applied.id, "shrink")
    await probe.until_state(cohort.id, "held")
    held = probe.runs("held")[-1]
    probe.notes.held_reason = held.reason or ""
    probe.notes.held_leavers = len(probe.plan.moves["shrink"].leaving)
    env.display.say(f"run {held.run_id} is held: {held.reason}")
    await probe.compare(cohort.id, "the shrink is held")
    explained = await probe.explain(applied, "the shrink is held")
    env.display.say("meanwhile relay explains the list that is in force:")
    table = new_table(("", "number"), numbers=("number",))
    for part, number in numbers_of(Explanation(**explained.model_dump())):
        table.add_row(part.label, f"{number:,}")
    env.display.show(table)
    probe.expect_cohort(cohort)
    await env.api.call(APPROVE_RUN, NoInput(), run_id=str(held.run_id))
    await probe.until_revision(cohort.id, "the approval")
    await probe.explain(cohort, "the approval")
    env.display.say("approved: the segment shrank in one step")


async def push_cohort(env: Environment) -> None:
    """Amplitude pushes another cohort, every message twice."""
    probe = SegmentProbe(env)
    hook = env.addresses.hook(probe.app, "cohorts")
    push = CohortPush(Target(hook, probe.app.token), _EVERY_MESSAGE_TWICE)
    cohort = probe.put(probe.plan.pushed)
    await _push(probe, push, cohort.id)
    probe.recompute(cohort.id, "pushed")
    await _push(probe, push, cohort.id)
    move = probe.plan.moves["pushed"]
    (entering,), (leaving,) = move.entering, move.leaving
    env.display.say(f"then one message moved {entering} in and another one {leaving} out")


async def _push(probe: SegmentProbe, push: CohortPush, cohort_id: str) -> None:
    """Push what has changed of a cohort, and compare the segment with the messages."""
    notes = probe.notes
    account = await push.push(probe.project.cohorts[cohort_id])
    messages = {message.message_id: message for message in account.messages}.values()
    notes.revisions.setdefault(cohort_id, [NO_MEMBERS])
    for message in messages:
        members = members_after_message(
            notes.revisions[cohort_id][-1],
            message.user_ids,
            probe.known,
            is_entering=message.is_entering,
        )
        probe.expect(cohort_id, members)
    answered = account.answers["200"]
    notes.messages += len(messages)
    notes.deliveries += answered
    notes.undelivered += account.answers.total() - answered
    await probe.compare(cohort_id, f"{len(messages)} messages of the webhook")
    probe.env.display.say(
        f"{len(messages)} messages, answered 200 {answered} times: "
        f"{len(notes.revisions[cohort_id][-1])} members"
    )


async def kill_during_export(env: Environment) -> None:
    """While Amplitude still makes the file."""
    probe = SegmentProbe(env)
    conditions, before = probe.amplitude.conditions, len(probe.exports)
    # While no export completes, the old ones count as running too.
    conditions.limits.parallel = before + 2
    conditions.job = Job(never_completes=True)
    cohort = probe.recompute(probe.plan.polled.id, "export")
    probe.expect_cohort(cohort)
    await probe.until(
        lambda: any(export.polls > 1 for export in probe.exports[before:]), "an export is under way"
    )
    export = probe.exports[before]
    killed_at_s = env.clock.monotonic_s()
    await env.process.kill()
    probe.notes.exports_killed = 1
    polls = export.polls
    env.display.say("killed while an export was under way")
    restart_s = await env.restart_relay(killed_at_s)
    await probe.until(lambda: export.polls > polls, "relay asks for the same export again")
    env.display.say(f"ready after {restart_s:.1f} s; relay asks for the same export again")
    conditions.job = Job()
    await probe.until_revision(cohort.id, "a SIGKILL in an export")
    probe.notes.exports_repeated = len(probe.exports) - before - 1
    env.display.say(f"its file is applied; {probe.notes.exports_repeated} more were asked for")


def figures(env: Environment) -> list[Figures]:
    """Return what the display shows of every segment."""
    downloads = Counter(export.cohort.id for export in SegmentProbe(env).exports)
    return [
        {
            "segment": segment.name,
            "cohort size": segment.cohort_size,
            "members": segment.matched_users,
            "subscribed count": segment.subscribed_count,
            "revision": segment.revision,
            "downloads": downloads[segment.cohort_id],
            "state": segment.state,
        }
        for segment in env.segments.latest.segments.values()
    ]
