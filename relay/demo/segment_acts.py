"""The story's second half: cohorts of Amplitude become segments, act by act."""

from collections.abc import Sequence
from typing import Final

import anyio
from rich.table import Table

from relay.cli.explain import numbers_of, summary
from relay.cli.output import new_table
from relay.demo.process import Stuck
from relay.demo.reader import ChangeRow, Reader
from relay.demo.segment_telling import WITHIN_S, SegmentTelling
from relay.demo.segment_troubles import break_files, hold_shrink, kill_during_export, lose_cohort
from relay.demo.stage import DATA_NAME
from relay.demo.telling import Telling
from relay.demo.truth import after_message
from relay.http.admin.directory import SHOW_DIRECTORY, SYNC_DIRECTORY
from relay.http.admin.operations import NoInput
from relay.http.admin.runs import APPROVE_RUN
from relay.http.admin.segment_schemas import DirectoryAnswer, ExplainAnswer
from relay.sandbox.cohorts.webhook import CohortPush, PushAccount, PushMessage, PushOptions
from relay.sandbox.common.target import Target
from relay.segments.read_model import Explanation

TABLE_NAME: Final = "segments.db"
SHOWN: Final = 3
"""Users named of those who entered or left."""

EVERY_MESSAGE_TWICE: Final = PushOptions(users_per_message=200, duplicate_rate=1.0)


async def tell_segments(telling: Telling) -> None:
    """Tell the cohort acts, while another program reads the segments all the time.

    Raises:
        Stuck: If what an act waits for does not come.
        DemoFailed: If relay ends by itself.
    """
    stage = telling.stage
    reader = Reader(stage.folder / DATA_NAME / TABLE_NAME, stage.apps[0].name)
    told = SegmentTelling(telling, reader)
    telling.measured.segments.readings = reader.readings
    failure: Stuck | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(reader.run, name="demo reader")
        try:
            await _tell_acts(told)
        except Stuck as stuck:
            failure = stuck
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _tell_acts(told: SegmentTelling) -> None:
    await _fill_directory(told)
    with told.stage.view.following(told.figures):
        for act in (
            _download_cohort,
            _compute_anew,
            break_files,
            lose_cohort,
            _hold_and_explain,
            _push_cohort,
            kill_during_export,
        ):
            await act(told)
        told.stage.view.end_act()


async def _fill_directory(told: SegmentTelling) -> None:
    stage, app = told.stage, told.app
    stage.view.begin_act(
        "9. The directory", f"relay learns OneSignal's users of {app.name} from its CSV export"
    )
    before = await stage.api.call(SHOW_DIRECTORY, NoInput(), app=app.name)
    await stage.api.call(SYNC_DIRECTORY, NoInput(), app=app.name)
    directory = await _synced_directory(told)
    stage.view.say(
        f"events have told of {before.users} users; now {directory.users} are known, with "
        f"{directory.subscriptions} subscriptions, {directory.subscribed} of them subscribed"
    )


async def _synced_directory(told: SegmentTelling) -> DirectoryAnswer:
    """Return the directory once an export is applied.

    Raises:
        Stuck: If none is.
    """
    with anyio.move_on_after(WITHIN_S):
        while True:
            directory = await told.stage.api.call(SHOW_DIRECTORY, NoInput(), app=told.app.name)
            if directory.synced_at is not None:
                return directory
            await told.stage.watch.next_look()
    raise Stuck("OneSignal's export was not applied")


async def _download_cohort(told: SegmentTelling) -> None:
    stage = told.stage
    stage.view.begin_act(
        "10. A cohort", "its file names users OneSignal does not know, and rows without a user"
    )
    told.expect(told.audience.polled)
    cohort = told.put(told.audience.polled)
    await told.until_revision(cohort.id)
    await told.compare("the first download", cohort.id)
    explained = await told.explain("the first download", cohort)
    stage.view.say(f"{cohort.name}: {summary(Explanation(**explained.model_dump()))}")


async def _compute_anew(told: SegmentTelling) -> None:
    stage = told.stage
    stage.view.begin_act("11. The cohort changes", "Amplitude computes it anew")
    cohort = told.compute(told.audience.polled.id, told.audience.moves["change"])
    told.expect(cohort)
    await told.until_revision(cohort.id)
    await told.compare("another computation", cohort.id)
    for line in _describe(told.reader.last_changes.get(cohort.id, ())):
        stage.view.say(f"segment_changes: {line}")


def _describe(changes: Sequence[ChangeRow]) -> list[str]:
    """Return who moved, by words of the view."""
    lines = []
    for word in ("entered", "left"):
        names = [change.external_id for change in changes if change.change == word]
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        lines.append(f"{len(names)} {word}: {', '.join(names[:SHOWN])}{more}")
    return lines


async def _hold_and_explain(told: SegmentTelling) -> None:
    explained = await hold_shrink(told)
    told.stage.view.say("meanwhile relay explains the list that is in force:")
    told.stage.view.show(_explanation_table(explained))
    held = told.runs("held")[-1]
    await told.stage.api.call(APPROVE_RUN, NoInput(), run_id=str(held.run_id))
    cohort = told.polled
    await told.until_revision(cohort.id)
    await told.compare("the approval", cohort.id)
    await told.explain("the approval", cohort)
    told.stage.view.say("a person approved it: the segment shrank in one step")


def _explanation_table(explained: ExplainAnswer) -> Table:
    table = new_table(("", "number"), numbers=("number",))
    for part, number in numbers_of(Explanation(**explained.model_dump())):
        table.add_row(part.label, f"{number:,}")
    return table


async def _push_cohort(told: SegmentTelling) -> None:
    stage, app = told.stage, told.app
    stage.view.begin_act("14. The webhook", "Amplitude pushes a cohort, every message twice")
    hook = stage.doors.hook(app, "cohorts")
    push = CohortPush(Target(hook, app.token), EVERY_MESSAGE_TWICE)
    cohort = told.put(told.audience.pushed)
    await _push(told, push, cohort.id)
    move = told.audience.moves["pushed"]
    told.compute(cohort.id, move)
    await _push(told, push, cohort.id)
    (enters,), (leaves,) = move.entering, move.leaving
    stage.view.say(f"then one message moved {enters} in and another one {leaves} out")


async def _push(told: SegmentTelling, push: CohortPush, cohort_id: str) -> None:
    """Push a cohort, and hold the segment against what the messages said."""
    account = await push.push(told.cohort(cohort_id))
    messages = _without_repetitions(account)
    told.noted.revisions.setdefault(cohort_id, [frozenset()])
    for message in messages:
        members = after_message(
            told.noted.revisions[cohort_id][-1],
            message.user_ids,
            told.known,
            is_entering=message.is_entering,
        )
        told.allow(cohort_id, members)
    good = account.answers["200"]
    told.noted.messages += len(messages)
    told.noted.deliveries += good
    told.noted.undelivered += account.answers.total() - good
    await told.compare(f"{len(messages)} messages of the webhook", cohort_id)
    told.stage.view.say(
        f"{len(messages)} messages, answered 200 {good} times: "
        f"{len(told.noted.revisions[cohort_id][-1])} members"
    )


def _without_repetitions(account: PushAccount) -> list[PushMessage]:
    return list({message.message_id: message for message in account.messages}.values())
